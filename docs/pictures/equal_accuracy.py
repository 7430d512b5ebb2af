"""Draw accuracy over latency: wired networks in the native engine beside dense ones.

    python docs/pictures/equal_accuracy.py [--results FILE] [--out docs/pictures/equal_accuracy.png]

Reads what benchmarks/equal_accuracy.py measured. The background is transparent, and all colours can be read on white
and on black.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, ScalarFormatter

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from benchmarks.equal_accuracy import curve_at
from docs.pictures.wiring import GREY, save

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results" / "equal_accuracy.json"
ENGINES = {"onnx": ("ONNX Runtime", "o"), "openvino": ("OpenVINO", "s")}
DENSE, WIRED = "#5b83c0", "#e15759"


def draw_cell(axes: Axes, cell: Mapping[str, Any], results: Mapping[str, Any]) -> None:
    """All networks of a cell, and the curve of the dense ones."""
    times = {name: time["median"] for name, time in cell["milliseconds"].items()}
    points = [(results["dense"][name]["accuracy"], times[column]) for name, column in cell["faster"].items()]
    accuracies = np.linspace(*(f(accuracy for accuracy, _ in points) for f in (min, max)), 200)
    axes.plot([curve_at(accuracy, points) for accuracy in accuracies], accuracies, color=DENSE, lw=1, zorder=1)
    for engine, (words, marker) in ENGINES.items():
        names = [name for name in results["dense"] if f"{name} {engine}" in times]
        if not names:
            continue
        x = [times[f"{name} {engine}"] for name in names]
        y = [results["dense"][name]["accuracy"] for name in names]
        fill = [DENSE if cell["faster"][name] == f"{name} {engine}" else "none" for name in names]
        axes.scatter(x, y, marker=marker, s=22, facecolors=fill, edgecolors=DENSE, label=f"dense, {words}", zorder=2)
    for name, column in cell["faster"].items():
        _name(axes, times[column], results["dense"][name]["accuracy"], results["dense"][name]["words"], DENSE, "left")
    wired = results["wired"]
    x, y = [times[name] for name in wired], [wired[name]["accuracy"] for name in wired]
    axes.plot(
        x, y, color=WIRED, lw=1, marker="D", ms=5, label="wired, native engine (how many times as fast)", zorder=3
    )
    for name in wired:
        ratio = cell["ratio"][name]["median"]
        _name(axes, times[name], wired[name]["accuracy"], f"{name} ({ratio:.2f})", WIRED, "right")


def _name(axes: Axes, x: float, y: float, text: str, colour: str, side: str) -> None:
    """Writes beside a point: to the left of it above, or to the right of it below."""
    offset, vertical = ((6, -4), "top") if side == "left" else ((-6, 4), "bottom")
    axes.annotate(
        text, (x, y), offset, textcoords="offset points", color=colour, fontsize=7, ha=side, va=vertical, zorder=4
    )


def style(axes: Axes, cell: Mapping[str, Any]) -> None:
    """Grey axes, ticks in plain numbers, and the cell's words above."""
    images = "one image" if cell["batch"] == 1 else f"batches of {cell['batch']}"
    threads = f"{cell['threads']} thread{'' if cell['threads'] == 1 else 's'}"
    axes.set_title(f"{images}, {threads}", color=GREY, fontsize=10)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(0.3, 0.1)
    low, high = axes.get_xlim()
    ticks = [tick for tick in (0.2, 0.5, 1, 2, 5, 10, 20, 50) if low <= tick <= high]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_facecolor("none")
    axes.grid(color=GREY, alpha=0.25, lw=0.5)
    axes.tick_params(which="both", colors=GREY, labelsize=8)
    for spine in axes.spines.values():
        spine.set_color(GREY)


def picture(results: Mapping[str, Any]) -> Figure:
    """A panel a cell."""
    cells = results["cells"]
    columns = min(2, len(cells))
    rows = -(-len(cells) // columns)
    figure = Figure(figsize=(5.5 * columns, 3.6 * rows + 0.4), facecolor="none")
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    for axes, cell in zip(panels, cells, strict=False):
        draw_cell(axes, cell, results)
        style(axes, cell)
    for axes in panels[len(cells) :]:
        axes.remove()
    figure.supxlabel("milliseconds an image", color=GREY, fontsize=9)
    figure.supylabel("top-1 on ImageNet, % (published)", color=GREY, fontsize=9)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="upper center", ncols=3, frameon=False, fontsize=8, labelcolor=GREY)
    figure.tight_layout(rect=(0, 0, 1, 0.96))
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".png"))
    args = parser.parse_args()
    save(picture(json.loads(args.results.read_text())), args.out)
    print(f"written to {args.out}")


if __name__ == "__main__":
    main()
