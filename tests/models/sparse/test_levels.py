"""Levels: their edges in compressed rows, their sizes, and parts of them."""

from __future__ import annotations

import numpy as np
import pytest

from models.sparse.levels import Depthwise, Edges, InstanceNorm, Level, convolved


def test_dense_edges_come_back():
    weight = np.array([[0, 1, 2], [0, 0, 0], [3, 0, -4]], np.float32)
    edges = Edges.from_dense(weight)
    assert edges.count == 4
    assert edges.rows.tolist() == [0, 0, 2, 2]
    np.testing.assert_array_equal(edges.dense()[:, :, 0, 0], weight)


def test_select_numbers_anew():
    weight = np.array([[1, 2, 0], [0, 3, 4], [5, 0, 6]], np.float32)
    part = Edges.from_dense(weight).select(np.array([True, False, True]), np.array([True, False, True]))
    np.testing.assert_array_equal(part.dense()[:, :, 0, 0], [[1, 0], [5, 6]])


def level(**changes) -> Level:
    weight = np.array([[1, 0, 2], [0, 3, 0]], np.float32)
    return Level(
        "two", "stage", np.arange(5, 7), (0,), Edges.from_dense(weight), np.array([7, 8], np.float32), **changes
    )


def test_a_kernel_is_one_edge():
    weight = np.zeros((2, 3, 3, 3), np.float32)
    weight[1, 2, 0, 0] = 5
    edges = Edges.from_dense(weight, stride=2, padding=1)
    assert (edges.count, edges.nodes, edges.columns, edges.kernel) == (1, 2, 3, (3, 3))
    assert not edges.plain
    assert edges.matrix().toarray()[1].nonzero()[0].tolist() == [2 * 9]
    np.testing.assert_array_equal(edges.dense(), weight)


def test_sizes():
    assert convolved((7, 8), (3, 3), 2, 1) == (4, 4)
    strided = level(depthwise=Depthwise(np.ones((2, 3, 3), np.float32), np.zeros(2, np.float32), stride=2))
    assert strided.sum_size((9, 6)) == (9, 6)
    assert strided.plane_size((9, 6)) == strided.convolved_size((9, 6)) == (5, 3)
    assert level(mean=True).plane_size((9, 6)) == (1, 1)


def test_a_part_of_a_level_has_its_own_operations():
    kernel = np.arange(18, dtype=np.float32).reshape(2, 3, 3)
    norm = InstanceNorm(np.array([1, 2], np.float32), np.array([3, 4], np.float32))
    whole = level(norm=norm, depthwise=Depthwise(kernel, np.array([5, 6], np.float32)))
    part = whole.select(np.array([False, True]), np.array([True, True, False]))
    assert part.channels.tolist() == [6]
    assert part.bias.tolist() == [8]
    assert part.incoming.dense()[:, :, 0, 0].tolist() == [[0, 3]]
    assert (part.norm.weight.tolist(), part.norm.bias.tolist()) == ([2], [4])
    np.testing.assert_array_equal(part.depthwise.kernel, kernel[1:])
    assert part.depthwise.bias.tolist() == [6]


def test_the_input_has_no_edges():
    with pytest.raises(AssertionError, match="input"):
        _ = Level("input", "", np.arange(3)).incoming
