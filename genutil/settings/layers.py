"""Settings stated one over the other: by bases, app files, checkpoints and the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from genutil.settings.wiring import untaken

GRAPH_SOURCES = {"graph_model", "graph_param", "graph_seed", "graph_files"}
RIVALS = {
    "num_epochs": "num_steps",
    "num_steps": "num_epochs",
    "warmup_epochs": "warmup_steps",
    "warmup_steps": "warmup_epochs",
}
"""Keys that say the same in other units, of which the one that is given last holds."""


@dataclass(frozen=True)
class Layer:
    """What one source states.

    Attributes:
        stated: settings in the words of today.
        tolerant: options that the wiring does not take are left out. Files that call the rule graph may carry them for
            any wiring, and settings that a run kept list them all.
    """

    stated: Mapping[str, Any]
    tolerant: bool = False


def merge(layers: Sequence[Layer]) -> dict[str, Any]:
    """The settings of all layers, the last on top.

    Graphs that a layer keeps give way to what is stated of graphs above it, and a length in epochs to one in steps that
    is stated above it, or the other way round. Options give way to a wiring that is stated
    above them and does not take them; in the layer of the wiring or above they stay, and are a mistake.
    """
    settings: dict[str, Any] = {}
    for layer in layers:
        if not GRAPH_SOURCES.isdisjoint(layer.stated):
            settings.pop("stage_graphs", None)
        for key, rival in RIVALS.items():
            if layer.stated.get(key) not in (None, False, "", "none", "null") and rival not in layer.stated:
                settings.pop(rival, None)
        settings |= layer.stated
    rule = settings.get("wiring", "complete")
    chosen = max((index for index, layer in enumerate(layers) if "wiring" in layer.stated), default=0)
    wrong = {key for i, layer in enumerate(layers) if i >= chosen and not layer.tolerant for key in layer.stated}
    overruled = set(untaken(str(rule), settings)) - wrong
    return {key: value for key, value in settings.items() if key not in overruled}
