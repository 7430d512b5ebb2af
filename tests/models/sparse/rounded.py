"""A channel graph computed in NumPy with every number of its planes rounded to half precision: as much as that changes,
an engine in half precision may change."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from models.sparse.graph import ChannelGraph, Level, compute_planes
from models.sparse.levels import Depthwise, Edges
from models.sparse.planes import apply_nodes, sum_edges

UNIT_ROUNDOFF = 2.0**-11
"""Of half precision: the largest error of a rounding, relative to the number."""


def tolerance(graph: ChannelGraph, images: NDArray, in_half: bool) -> float:
    """The largest difference from the exact output that is right for an engine in half precision on these images: three
    times what rounding changes here, for others round otherwise, and two roundings of the output's largest number.

    Args:
        graph, images: images are [batch, channels, height, width].
        in_half: sums are rounded at every edge, as by a processor that adds halves; else when they are stored.
    """
    exact = np.stack([compute_planes(graph, image)[-1] for image in images])
    near = np.stack([compute_rounded(graph, image, in_half) for image in images])
    return float(3 * abs(near - exact).max() + 2 * UNIT_ROUNDOFF * abs(exact).max())


def compute_rounded(graph: ChannelGraph, image: NDArray, in_half: bool) -> NDArray:
    """The last level's planes for one image [channels, height, width], float64; see `tolerance`."""
    planes: list[NDArray] = []
    for level in graph.levels:
        if level.edges is None:
            planes.append(rounded(image))
            continue
        sources = np.concatenate([planes[source] for source in level.sources])
        edges = replace(level.edges, weight=rounded(level.edges.weight))
        if _over_values(graph, level):
            planes.append(apply_nodes(level, sum_edges(edges, sources) + level.bias[:, None, None]))
        else:
            add = _add_halves if in_half else _add
            planes.append(_nodes(level, add(edges, sources, rounded(level.bias)), in_half))
    return planes[-1]


def rounded(values: NDArray) -> NDArray:
    """The nearest numbers of half precision, as float64."""
    return values.astype(np.float16).astype(np.float64)


def _add(edges: Edges, sources: NDArray, bias: NDArray) -> NDArray:
    return rounded(sum_edges(edges, sources) + bias[:, None, None])


def _add_halves(edges: Edges, sources: NDArray, bias: NDArray) -> NDArray:
    """The sums with a rounding after every edge, and after every tap of its kernel."""
    matrix = edges.matrix()
    inputs = _unfolded(edges, sources)
    sums = np.zeros((edges.nodes, *inputs.shape[1:])) + bias[:, None, None]
    count = np.diff(matrix.indptr)
    for k in range(count.max(initial=0)):
        nodes = np.flatnonzero(count > k)
        at = matrix.indptr[nodes] + k
        sums[nodes] = rounded(sums[nodes] + matrix.data[at, None, None] * inputs[matrix.indices[at]])
    return sums


def _convolve_halves(depthwise: Depthwise, planes: NDArray) -> NDArray:
    """A depthwise convolution, as edges of a kernel from each plane to itself."""
    number = np.arange(len(planes) + 1)
    kernel = rounded(depthwise.kernel)
    edges = Edges(len(planes), number, number[:-1], kernel, depthwise.stride, depthwise.padding)
    return _add_halves(edges, planes, rounded(depthwise.bias))


def _unfolded(edges: Edges, sources: NDArray) -> NDArray:
    """What each tap of each source sees: [columns * taps, height, width]."""
    padding, stride = edges.padding, edges.stride
    padded = np.pad(sources, ((0, 0), (padding, padding), (padding, padding)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, edges.kernel, axis=(1, 2))[:, ::stride, ::stride]
    return windows.transpose(0, 3, 4, 1, 2).reshape(-1, *windows.shape[1:3])


def _nodes(level: Level, sums: NDArray, in_half: bool) -> NDArray:
    """What the nodes give for their sums, rounded after every operation but the mean."""
    bare = replace(level, norm=None, relu=False, depthwise=None, mean=False, window=None)
    planes = rounded(apply_nodes(replace(bare, norm=level.norm, relu=level.relu), sums))
    if level.depthwise is not None and in_half:
        planes = _convolve_halves(level.depthwise, planes)
    elif level.depthwise is not None:
        planes = rounded(apply_nodes(replace(bare, depthwise=level.depthwise), planes))
    return apply_nodes(replace(bare, mean=level.mean, window=level.window), planes)


def _over_values(graph: ChannelGraph, level: Level) -> bool:
    """The level sums over single values, behind a mean."""
    source = graph.levels[level.sources[0]]
    return source.mean or (source.edges is not None and _over_values(graph, source))
