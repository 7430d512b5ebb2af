"""Random channel graphs of every shape that the engines must run."""

from __future__ import annotations

import numpy as np

from models.sparse.graph import ChannelGraph, Depthwise, Edges, InstanceNorm, Level


def random_graph(seed: int) -> tuple[ChannelGraph, tuple[int, int]]:
    """A graph that lives, and a size of images for it: stages of levels, idle nodes and empty rows, odd sizes,
    kernels, norms."""
    draw = np.random.default_rng(seed)
    while True:
        graph, size = _draw(draw)
        if graph.liveness[-1].varying.any():
            return graph, size


def _draw(draw: np.random.Generator) -> tuple[ChannelGraph, tuple[int, int]]:
    size = int(draw.integers(1, 40)), int(draw.integers(1, 40))
    channels = int(draw.integers(1, 5))
    levels = [Level("input", "", _numbers(channels), bias=np.zeros(channels, np.float32))]
    current, group = size, [0]
    if draw.random() < 0.7:
        kernel = int(draw.choice([1, 3, 5]))
        level = _level(
            draw,
            "stem",
            levels,
            [0],
            int(draw.integers(1, 20)),
            float(draw.choice([0.7, 1.0])),
            kernel,
            int(draw.integers(1, 3)),
        )
        current = level.sum_size(current)
        levels.append(_nodes(draw, level, current, True))
        current, group = levels[-1].plane_size(current), [1]
    for stage in range(int(draw.integers(1, 4))):
        for hidden in range(int(draw.integers(0, 3))):
            level = _level(draw, f"{stage}.{hidden}", levels, group, int(draw.integers(1, 60)))
            levels.append(_nodes(draw, level, current, False))
            group = [*group, len(levels) - 1]
        level = _level(draw, f"{stage}.out", levels, group, int(draw.integers(1, 90)))
        levels.append(_nodes(draw, level, current, True))
        current, group = levels[-1].plane_size(current), [len(levels) - 1]
    if draw.random() < 0.3:
        levels.append(_level(draw, "planes", levels, group, int(draw.integers(1, 20))))
        return ChannelGraph(tuple(levels), flat=False), size
    level = _level(draw, "last", levels, group, int(draw.integers(1, 50)))
    window = None
    if draw.random() < 0.4:
        top, left = int(draw.integers(0, current[0])), int(draw.integers(0, current[1]))
        window = (top, int(draw.integers(top + 1, current[0] + 1)), left, int(draw.integers(left + 1, current[1] + 1)))
    norm = _norm(draw, level.nodes) if draw.random() < 0.3 else None
    levels.append(_with(level, relu=bool(draw.random() < 0.7), mean=True, window=window, norm=norm))
    for i in range(int(draw.integers(1, 3))):
        density = float(draw.choice([0.05, 0.2, 1.0]))
        level = _level(draw, f"head.{i}", levels, [len(levels) - 1], int(draw.integers(1, 30)), density)
        levels.append(_with(level, relu=i == 0 and bool(draw.random() < 0.5)))
    return ChannelGraph(tuple(levels)), size


def _numbers(nodes: int) -> np.ndarray:
    return np.arange(nodes, dtype=np.int64)


def _with(level: Level, **fields: object) -> Level:
    return Level(**{**vars(level), **fields})


def _level(
    draw: np.random.Generator,
    name: str,
    levels: list[Level],
    sources: list[int],
    nodes: int,
    density: float | None = None,
    kernel: int = 1,
    stride: int = 1,
) -> Level:
    columns = sum(levels[source].nodes for source in sources)
    weight = draw.standard_normal((nodes, columns, kernel, kernel)).astype(np.float32)
    weight *= draw.random(weight.shape) < (float(draw.choice([0.03, 0.1, 0.4])) if density is None else density)
    weight /= np.sqrt(1 + (weight != 0).sum(axis=(1, 2, 3), keepdims=True))
    padding = kernel // 2
    edges = Edges.from_dense(weight, stride, padding)
    bias = draw.standard_normal(nodes).astype(np.float32)
    return Level(name, name, _numbers(nodes), tuple(sources), edges, bias)


def _norm(draw: np.random.Generator, nodes: int) -> InstanceNorm:
    scale, shift = draw.uniform(0.5, 1.5, nodes), draw.standard_normal(nodes)
    return InstanceNorm(scale.astype(np.float32), shift.astype(np.float32))


def _nodes(draw: np.random.Generator, level: Level, size: tuple[int, int], may_shrink: bool) -> Level:
    """The level with random operations; planes keep their size unless it may shrink."""
    norm = _norm(draw, level.nodes) if draw.random() < 0.2 else None
    depthwise = None
    if draw.random() < 0.85:
        side = int(draw.choice([3, 3, 3, 1, 5]))
        stride = int(draw.choice([1, 2, 2, 3])) if may_shrink else 1
        kernel = draw.standard_normal((level.nodes, side, side)).astype(np.float32) / side
        bias = draw.standard_normal(level.nodes).astype(np.float32) * bool(draw.random() < 0.3)
        depthwise = Depthwise(kernel, bias.astype(np.float32), stride, side // 2)
    return _with(level, norm=norm, relu=bool(draw.random() < 0.8), depthwise=depthwise)
