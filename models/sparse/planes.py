"""What the nodes of a level compute, in numpy: slow and plain, for constant nodes and to compare engines with."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.sparse.levels import Edges, Level, convolved


def convolve_planes(planes: NDArray, kernel: NDArray, stride: int, padding: int) -> NDArray:
    """Each plane [n, height, width] convolved with its own kernel [n, kernel height, kernel width]; zero padding."""
    height, width = convolved(planes.shape[1:], kernel.shape[1:], stride, padding)
    padded = np.pad(planes, ((0, 0), (padding, padding), (padding, padding)))
    result = np.zeros((len(planes), height, width), planes.dtype)
    for y in range(kernel.shape[1]):
        for x in range(kernel.shape[2]):
            rows = slice(y, y + stride * (height - 1) + 1, stride)
            columns = slice(x, x + stride * (width - 1) + 1, stride)
            result += kernel[:, y, x, None, None] * padded[:, rows, columns]
    return result


def sum_edges(edges: Edges, planes: NDArray) -> NDArray:
    """The sums [nodes, height, width] over the edges of source planes [columns, height, width]."""
    from scipy import sparse

    if edges.plain:
        sums = sparse.csr_array((edges.weight[:, 0, 0], edges.indices, edges.indptr), (edges.nodes, edges.columns))
        return (sums @ planes.reshape(len(planes), -1)).reshape(-1, *planes.shape[1:])
    sums = np.zeros(
        (edges.nodes, *convolved(planes.shape[1:], edges.kernel, edges.stride, edges.padding)), planes.dtype
    )
    products = convolve_planes(planes[edges.indices], edges.weight, edges.stride, edges.padding)
    np.add.at(sums, edges.rows, products)
    return sums


def apply_nodes(level: Level, sums: NDArray) -> NDArray:
    """What the nodes of a level give for their sums [nodes, height, width], in numpy, for checks and constants."""
    if level.norm is not None:
        centred = sums - sums.mean(axis=(1, 2), keepdims=True)
        deviation = np.sqrt((centred**2).mean(axis=(1, 2), keepdims=True) + level.norm.eps)
        sums = centred / deviation * level.norm.weight[:, None, None] + level.norm.bias[:, None, None]
    if level.relu:
        sums = np.maximum(sums, 0)
    if level.depthwise is not None:
        sums = convolve_planes(sums, level.depthwise.kernel, level.depthwise.stride, level.depthwise.padding)
        sums = sums + level.depthwise.bias[:, None, None]
    if level.window is not None:
        top, bottom, left, right = level.window
        sums = sums[:, top:bottom, left:right]
    return sums.mean(axis=(1, 2), keepdims=True) if level.mean else sums
