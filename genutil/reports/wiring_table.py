"""The measures of a wiring as a table for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

COLUMNS = {
    "nodes": ("live_nodes", "d"),
    "edges": ("edges", "d"),
    "degree": ("degree_mean", ".1f"),
    "its std": ("degree_std", ".1f"),
    "max": ("degree_max", "d"),
    "path length": ("path_length", ".3f"),
    "directed": ("directed_path_length", ".3f"),
    "diameter": ("diameter", "d"),
    "clustering": ("clustering", ".4f"),
    "depth": ("depth", "d"),
    "edge length": ("edge_length_mean", ".2f"),
    "parts": ("components", "d"),
}
"""Heads of the columns, with the measure and its form."""


def table_of_measures(measures: Mapping[str, Mapping[str, Any]]) -> str:
    """A line for each stage, and one for the whole wiring (docs/wirings.md says what the columns are).

    Args:
        measures: see `models.measures.measures_of`.
    """
    rows = [["wiring", *COLUMNS]]
    rows += [[name or "whole", *_cells(found)] for name, found in measures.items() if name or len(measures) == 1]
    if len(measures) > 1:
        rows.append(["whole", *_cells(measures[""])])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join([first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row, widths[1:], strict=True))])
        for first, *row in rows
    ]
    return "\n".join(lines)


def _cells(found: Mapping[str, Any]) -> list[str]:
    return [format(found[key], "," + form if form == "d" else form) for key, form in COLUMNS.values()]
