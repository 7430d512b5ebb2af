"""Pictures of a network's architecture: what happens to an image, from the top down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, PathPatch
from matplotlib.path import Path as Curve
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from genutil.errors import UserError
from genutil.system.files import write_whole
from models.inspection import evaluating, watched_calls

FORMATS = {".png": FigureCanvasAgg, ".svg": FigureCanvasSVG}
TALLEST = 30_000
"""Pixels of a PNG; taller pictures are drawn with fewer pixels an inch."""
WIDE, HIGH, GAP = 2.5, 0.46, 0.16
"""Inches of a box, and between boxes."""
COLOURS = {"conv": "#cfe2f3", "linear": "#d9d2e9", "norm": "#eeeeee", "sum": "#fce5cd", "pool": "#d9ead3"}
NAMES = {
    "convolution": "conv",
    "cudnn_batch_norm": "BN",
    "native_batch_norm": "BN",
    "_native_batch_norm_legit_no_training": "BN",
    "relu": "ReLU",
    "relu_": "ReLU",
    "add": "+",
    "add_": "+",
    "sum": "sum",
    "cat": "concatenate",
    "mean": "mean",
    "addmm": "linear",
    "mm": "edges",
    "constant_pad_nd": "pad",
    "max_pool2d_with_indices": "max pool",
    "_adaptive_avg_pool2d": "mean",
    "avg_pool2d": "average pool",
}
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
SILENT = {"clone", "copy_", "_to_copy", "detach", "contiguous", "lift_fresh", "_unsafe_view"}
"""Operations that leave the values as they are."""


@dataclass
class Box:
    """One or more operations in a row.

    Attributes:
        labels: of the operations, in order.
        kind: key of COLOURS, of the first that has one.
        module: name of the module that the first belongs to.
        shape: of the result, without the batch.
        sources: boxes that it takes values from, by their index in the list of boxes.
    """

    labels: list[str]
    kind: str
    module: str
    shape: tuple[int, ...]
    sources: list[int] = field(default_factory=list)


def draw(network: nn.Module, image_size: int, in_channels: int, path: str | Path) -> None:
    """Draw a network as it computes for one image of in_channels x image_size x image_size, into a .png or .svg file.

    Raises:
        UserError: another ending, or a file that cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        raise UserError(f"A picture is a file that ends in {' or '.join(FORMATS)}, not {path.name}.")
    boxes = merge(trace(network, torch.zeros(1, in_channels, image_size, image_size)))
    figure = _figure(boxes, places(boxes))
    dpi = min(100.0, TALLEST / figure.get_figheight())
    FORMATS[path.suffix.lower()](figure)
    write_whole(path, lambda file: figure.savefig(file, dpi=dpi, format=path.suffix.lower()[1:]))


def trace(network: nn.Module, images: Tensor) -> list[Box]:
    """Every operation on what comes from the images, in the order of computation; the first box is the input."""
    recorder = _Recorder(images)
    names = [name for name, _ in network.named_modules() if not {"parametrizations", "wiring"} & {*name.split(".")}]
    with evaluating(network), watched_calls(network, names, recorder.enter, recorder.leave), recorder:
        network(images.to(next(network.parameters(), images).device))
    return recorder.boxes


class _Recorder(TorchDispatchMode):
    """Follows values by the memory that holds them, so that views need no care and changes in place are seen."""

    def __init__(self, images: Tensor) -> None:
        super().__init__()
        self.boxes = [Box(["input"], "", "", tuple(images.shape[1:]))]
        self.stack: list[tuple[str, nn.Module]] = []
        self._makers: dict[int, set[int]] = {_memory(images): {0}}
        self._alive = [images]
        self._leaf_calls: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        out = func(*args, **(kwargs or {}))
        given = _dense((args, kwargs or {}))
        sources = sorted(set().union(*(self._makers.get(_memory(t), ()) for t in given), set()))
        made = _dense(out)
        if not made:
            return out
        self._alive += made  # memory that is given back would be taken for what comes to lie there next
        known = {_memory(t) for t in given}
        name = func.name().removeprefix("aten::").split(".")[0]
        changes = name.endswith("_") or "out" in (kwargs or {})
        if not sources or (all(_memory(t) in known for t in made) and not changes):
            return out
        makers = set(sources) if name in SILENT else {self._box(name, args, made[0], sources)}
        for tensor in made:
            self._makers[_memory(tensor)] = makers
        return out

    def enter(self, name: str, module: nn.Module, _: Any) -> None:
        self.stack.append((name, module))

    def leave(self, *_: Any) -> None:
        self.stack.pop()
        self._leaf_calls.pop(len(self.stack), None)

    def _box(self, name: str, args: tuple, made: Tensor, sources: list[int]) -> int:
        """The box of an operation: within a layer of PyTorch's own, all operations of one call share one."""
        module_name, module = self.stack[-1] if self.stack else ("", None)
        leaf = module is not None and type(module).__module__.startswith(("torch.nn", "torch.ao"))
        depth = len(self.stack) - 1
        shape = tuple(made.shape[1:])
        if leaf and depth in self._leaf_calls:
            index = self._leaf_calls[depth]
            self.boxes[index].sources = sorted({*self.boxes[index].sources, *sources} - {index})
            self.boxes[index].shape = shape
            return index
        label, kind = _describe(module) if module is not None and leaf else (_label(name, args), _kind(name))
        self.boxes.append(Box([label], kind, module_name, shape, sources))
        if leaf:
            self._leaf_calls[depth] = len(self.boxes) - 1
        return len(self.boxes) - 1


def _dense(values: Any) -> list[Tensor]:
    """The tensors among values; sparse ones hold weights, never what comes from the images."""
    return [value for value in tree_iter(values) if isinstance(value, Tensor) and value.layout is torch.strided]


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _describe(module: nn.Module) -> tuple[str, str]:
    """Label and kind of a layer of PyTorch's own."""
    wired = "wired " if parametrize.is_parametrized(module) else ""
    if isinstance(module, CONVOLUTIONS):
        return wired + _conv(module.weight, module.stride, module.groups), "conv"
    if isinstance(module, nn.Linear):
        return f"{wired}linear, {module.out_features}", "linear"
    name = type(module).__name__
    if "Norm" in name:
        return name.replace("BatchNorm", "BN").removesuffix("1d").removesuffix("2d"), "norm"
    return name, "pool" if "Pool" in name else ""


def _label(name: str, args: tuple) -> str:
    """Label of an operation outside of such layers."""
    if name == "convolution":
        return _conv(args[1], args[3], args[8])
    return NAMES.get(name, name.strip("_").replace("_", " "))


def _conv(weight: Tensor, stride: Sequence[int], groups: int) -> str:
    kernel = "x".join(map(str, weight.shape[2:]))
    depthwise = "depthwise " if groups > 1 and weight.shape[1] == 1 else ""
    several = f" in {groups} groups" if groups > 1 and not depthwise else ""
    return f"{depthwise}conv {kernel}, {len(weight)}{several}" + (f" /{stride[0]}" if set(stride) != {1} else "")


def _kind(name: str) -> str:
    kinds = {"convolution": "conv", "addmm": "linear", "mm": "linear", "add": "sum", "add_": "sum", "cat": "sum"}
    kinds |= {"sum": "sum", "mean": "pool"}
    return kinds.get(name, "norm" if "norm" in name else "pool" if "pool" in name else "")


def merge(boxes: list[Box]) -> list[Box]:
    """Operations without a branch between them that follow a conv, a sum or the like join its box."""
    readers = [0] * len(boxes)
    for box in boxes:
        for source in box.sources:
            readers[source] += 1
    merged: list[Box] = []
    place: list[int] = []
    for box in boxes:
        sources = sorted({place[source] for source in box.sources})
        simple = box.kind in ("norm", "") and len(box.sources) == 1 and readers[box.sources[0]] == 1
        if simple and sources != [0]:
            last = merged[sources[0]]
            last.labels, last.shape = [*last.labels, *box.labels], box.shape
            place.append(sources[0])
        else:
            merged.append(Box(list(box.labels), box.kind, box.module, box.shape, sources))
            place.append(len(merged) - 1)
    return merged


def places(boxes: list[Box]) -> list[tuple[float, int]]:
    """Column and row of every box: a row below all that it takes values from, a column near to them."""
    rows = [0] * len(boxes)
    for i, box in enumerate(boxes):
        rows[i] = 1 + max((rows[source] for source in box.sources), default=-1)
    layers: dict[int, list[int]] = {}
    for i, row in enumerate(rows):
        layers.setdefault(row, []).append(i)
    columns = [0.0] * len(boxes)
    for row in sorted(layers):
        members = layers[row]

        def wish(i: int) -> float:
            near = [columns[source] for source in boxes[i].sources]
            return sum(near) / len(near) if near else 0.0

        members.sort(key=wish)
        centre = sum(wish(i) for i in members) / len(members)
        for k, i in enumerate(members):
            columns[i] = centre + k - (len(members) - 1) / 2
    return list(zip(columns, rows, strict=True))


def _figure(boxes: list[Box], spots: list[tuple[float, int]]) -> Figure:
    """The boxes at their places, with a line for every value that is handed on."""
    left, right = min(c for c, _ in spots), max(c for c, _ in spots)
    bottom = max(r for _, r in spots)
    skips = any(spots[i][1] - spots[s][1] > 1 for i, box in enumerate(boxes) for s in box.sources)
    margin = 0.9 if skips else 0.3
    width = (right - left + 1) * (WIDE + 3 * GAP) + 2 * margin
    height = (bottom + 1) * (HIGH + 2 * GAP) + 2 * GAP
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.axis("off")
    centres = [
        (margin + (column - left + 0.5) * (WIDE + 3 * GAP), GAP + (row + 0.5) * (HIGH + 2 * GAP))
        for column, row in spots
    ]
    for i, box in enumerate(boxes):
        for source in box.sources:
            axes.add_patch(_line(centres[source], centres[i], spots[i][1] - spots[source][1]))
    for box, (x, y) in zip(boxes, centres, strict=True):
        corner = (x - WIDE / 2, y - HIGH / 2)
        style = "round,pad=0,rounding_size=0.06"
        colour = COLOURS.get(box.kind, "white")
        axes.add_patch(FancyBboxPatch(corner, WIDE, HIGH, style, facecolor=colour, edgecolor="#555555", zorder=2))
        axes.text(x, y - 0.07, ", ".join(box.labels), ha="center", va="center", fontsize=_size(box), zorder=3)
        shape = " x ".join(map(str, box.shape))
        note = f"{box.module}   {shape}" if box.module else shape
        axes.text(x, y + 0.13, note, ha="center", va="center", fontsize=5, color="#555555", zorder=3)
    return figure


def _size(box: Box) -> float:
    """Points of a label so that it fits its box."""
    return min(8.0, 2.1 * 72 * WIDE / max(sum(map(len, box.labels)) + 2 * len(box.labels), 1) / 1.25)


def _line(start: tuple[float, float], end: tuple[float, float], rows: int) -> PathPatch:
    """A line down to the next row; past boxes in between it takes a bow to the right."""
    (x0, y0), (x1, y1) = (start[0], start[1] + HIGH / 2), (end[0], end[1] - HIGH / 2)
    if rows == 1:
        curve = Curve([(x0, y0), (x0, y0 + GAP), (x1, y1 - GAP), (x1, y1)], [1, 4, 4, 4])
    else:
        side = max(start[0], end[0]) + WIDE / 2
        bow = side + min(0.25 + 0.05 * rows, 0.8)
        points = [(start[0] + WIDE / 2, start[1]), (bow, start[1]), (bow, start[1] + HIGH)]
        points += [(bow, end[1] - HIGH), (bow, end[1] - HIGH), (bow, end[1]), (end[0] + WIDE / 2, end[1])]
        curve = Curve(points, [1, 4, 4, 4, 4, 4, 4])
    return PathPatch(curve, facecolor="none", edgecolor="#888888", linewidth=0.8, zorder=1)
