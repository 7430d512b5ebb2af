"""Channel graphs as files: one .npz each, read without pickle and checked before anything uses it."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from models.sparse.graph import ChannelGraph, Constant, Depthwise, Edges, InstanceNorm, Level

FORMAT = "channel graph 1"
MAX_NODES = 1 << 24
MAX_KERNEL = 1 << 10


def save(graph: ChannelGraph, path: str | Path) -> None:
    """Write a graph to `path` (.npz): a JSON header and the arrays of every level."""
    with Path(path).open("wb") as file:
        write(graph, file)


def write(graph: ChannelGraph, file: BinaryIO) -> None:
    """Write a graph to an open file, as `save` does."""
    arrays: dict[str, NDArray] = {}
    levels = []
    for i, level in enumerate(graph.levels):
        header: dict[str, Any] = {
            "name": level.name,
            "stage": level.stage,
            "sources": level.sources,
            "relu": level.relu,
            "mean": level.mean,
            "window": level.window,
            "probe": level.probe,
        }
        arrays[f"{i}.channels"] = level.channels
        arrays[f"{i}.bias"] = level.bias
        for part in ("edges", "constant", "norm", "depthwise"):
            content = getattr(level, part)
            if content is None:
                continue
            fields = {name: value for name, value in vars(content).items() if not name.startswith("_")}
            header[part] = {name: value for name, value in fields.items() if not isinstance(value, np.ndarray)}
            arrays |= {f"{i}.{part}.{name}": value for name, value in fields.items() if isinstance(value, np.ndarray)}
        levels.append(header)
    header = {
        "format": FORMAT,
        "flat": graph.flat,
        "image_size": graph.image_size,
        "kept": graph.kept,
        "removable": graph.removable,
        "levels": levels,
    }
    contents: dict[str, Any] = {"header": np.frombuffer(json.dumps(header).encode(), np.uint8), **arrays}
    np.savez_compressed(file, **contents)


def load(path: str | Path) -> ChannelGraph:
    """Read a graph that `save` wrote. Raises OSError for no file, ValueError for one that holds no sound graph."""
    content = BytesIO(Path(path).read_bytes())
    try:
        with np.load(content, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        header = json.loads(arrays["header"].tobytes())
        if header["format"] != FORMAT:
            raise ValueError(f"its format is {header['format']!r}, not {FORMAT!r}")
        graph = ChannelGraph(
            levels=tuple(_level(i, entry, arrays) for i, entry in enumerate(header["levels"])),
            flat=bool(header["flat"]),
            image_size=_size(header["image_size"]),
            kept={str(stage): int(edges) for stage, edges in header["kept"].items()},
            removable=bool(header["removable"]),
        )
        validate(graph)
    except Exception as error:  # what zip, zlib and numpy raise over a damaged file is of many kinds
        raise ValueError(f"{path} does not hold a sound channel graph: {error}.") from error
    return graph


def _size(size: Any) -> tuple[int, int] | None:
    return None if size is None else (int(size[0]), int(size[1]))


def _level(index: int, header: dict[str, Any], arrays: dict[str, NDArray]) -> Level:
    kinds = {"edges": Edges, "constant": Constant, "norm": InstanceNorm, "depthwise": Depthwise}
    parts = {}
    for part, kind in kinds.items():
        if part in header:
            prefix = f"{index}.{part}."
            own = {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
            parts[part] = kind(**own, **header[part])
    probe, window = header["probe"], header["window"]
    return Level(
        name=str(header["name"]),
        stage=str(header["stage"]),
        channels=arrays[f"{index}.channels"],
        sources=tuple(int(source) for source in header["sources"]),
        bias=arrays[f"{index}.bias"],
        relu=bool(header["relu"]),
        mean=bool(header["mean"]),
        window=None if window is None else (int(window[0]), int(window[1]), int(window[2]), int(window[3])),
        probe=None if probe is None else (str(probe[0]), int(probe[1])),
        **parts,
    )


def validate(graph: ChannelGraph) -> None:
    """Raises ValueError unless every array has the type and the shape it must have and every index is in range."""
    if not graph.levels:
        raise ValueError("there is no level")
    for i, level in enumerate(graph.levels):
        try:
            _validate_level(graph, i, level)
        except ValueError as error:
            raise ValueError(f"level {level.name}: {error}") from error


def _validate_level(graph: ChannelGraph, index: int, level: Level) -> None:
    nodes = len(level.channels)
    _expect(level.channels, np.int64, (nodes,), "channels")
    if not 0 < nodes <= MAX_NODES:
        raise ValueError(f"it has {nodes} nodes")
    if (level.edges is None) != (index == 0) or bool(level.sources) == (index == 0):
        raise ValueError("the first level, and no other, has neither sources nor edges")
    if any(not 0 <= source < index for source in level.sources) or len(set(level.sources)) < len(level.sources):
        raise ValueError(f"its sources {level.sources} are not different earlier levels")
    _expect(level.bias, np.float32, (nodes,), "bias")
    if level.window is not None:
        top, bottom, left, right = level.window
        if not (level.mean and 0 <= top < bottom and 0 <= left < right):
            raise ValueError(f"its window is {level.window}")
    if level.edges is not None:
        _validate_edges(level.edges, nodes, sum(graph.levels[source].nodes for source in level.sources))
    if level.norm is not None:
        _expect(level.norm.weight, np.float32, (nodes,), "norm weight")
        _expect(level.norm.bias, np.float32, (nodes,), "norm bias")
        if not level.norm.eps > 0:
            raise ValueError(f"its norm has eps {level.norm.eps}")
    if level.depthwise is not None:
        kernel = level.depthwise.kernel
        _expect(kernel, np.float32, (nodes, *kernel.shape[1:]), "depthwise kernel")
        _expect(level.depthwise.bias, np.float32, (nodes,), "depthwise bias")
        _validate_kernel(kernel.shape[1:], level.depthwise.stride, level.depthwise.padding)
    if level.constant is not None:
        chosen, planes = level.constant.nodes, level.constant.planes
        _expect(chosen, np.int64, (len(chosen),), "constant nodes")
        _expect(planes, np.float32, (len(chosen), *planes.shape[1:]), "constant planes")
        if planes.ndim != 3 or graph.image_size is None:
            raise ValueError("constant planes need a height, a width and the image size they hold for")
        if len(chosen) and not (chosen[0] >= 0 and chosen[-1] < nodes and (np.diff(chosen) > 0).all()):
            raise ValueError("its constant nodes do not rise within its nodes")
        if graph.sizes(graph.image_size)[index][0] != planes.shape[1:]:
            raise ValueError("its constant planes have another size than its sums")


def _validate_edges(edges: Edges, nodes: int, columns: int) -> None:
    count = len(edges.indices)
    _expect(edges.indptr, np.int64, (nodes + 1,), "indptr")
    _expect(edges.indices, np.int32, (count,), "indices")
    _expect(edges.weight, np.float32, (count, *edges.weight.shape[1:]), "edge weights")
    _validate_kernel(edges.weight.shape[1:], edges.stride, edges.padding)
    if edges.columns != columns:
        raise ValueError(f"it has {edges.columns} columns for {columns} source nodes")
    if edges.indptr[0] != 0 or edges.indptr[-1] != count or (np.diff(edges.indptr) < 0).any():
        raise ValueError("indptr does not rise from 0 to the number of edges")
    if count and not (edges.indices.min() >= 0 and edges.indices.max() < columns):
        raise ValueError("an edge starts outside the sources")
    rises = np.diff(edges.indices.astype(np.int64)) > 0
    first = np.zeros(count + 1, dtype=bool)
    first[edges.indptr] = True
    if not (rises | first[1:count]).all():
        raise ValueError("the sources of a node do not rise")


def _validate_kernel(kernel: tuple[int, ...], stride: Any, padding: Any) -> None:
    if len(kernel) != 2 or not all(1 <= side <= MAX_KERNEL for side in kernel):
        raise ValueError(f"a kernel has the shape {kernel}")
    if not (isinstance(stride, int) and isinstance(padding, int) and 1 <= stride <= MAX_KERNEL):
        raise ValueError(f"a kernel has stride {stride} and padding {padding}")
    if not 0 <= padding < MAX_KERNEL:
        raise ValueError(f"a kernel has padding {padding}")


def _expect(array: NDArray, kind: type, shape: tuple[int, ...], what: str) -> None:
    if not isinstance(array, np.ndarray) or array.dtype != kind or array.shape != shape:
        found = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
        raise ValueError(f"{what} is {found}, not {np.dtype(kind)} {shape}")
    if kind is np.float32 and not np.isfinite(array).all():
        raise ValueError(f"{what} is not finite")
