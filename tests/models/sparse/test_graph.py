from __future__ import annotations

import numpy as np
import pytest

from models.sparse.graph import (
    ChannelGraph,
    Depthwise,
    Edges,
    Level,
    compute_planes,
)
from models.sparse.planes import convolve_planes
from tests.models.sparse.random_graphs import random_graph


def chain(first: np.ndarray, second: np.ndarray, bias: np.ndarray | None = None) -> ChannelGraph:
    """Two input channels, a level of ReLU and depthwise nodes, a level of means, which is the output."""
    hidden, out = len(first), len(second)
    bias = np.zeros(hidden, np.float32) if bias is None else bias.astype(np.float32)
    kernel = np.arange(1, 10, dtype=np.float32).reshape(1, 3, 3).repeat(hidden, axis=0)
    return ChannelGraph(
        (
            Level("input", "", np.arange(2), bias=np.zeros(2, np.float32)),
            Level(
                "hidden",
                "first",
                np.arange(hidden),
                (0,),
                Edges.from_dense(first),
                bias,
                relu=True,
                depthwise=Depthwise(kernel, np.zeros(hidden, np.float32)),
            ),
            Level(
                "out", "second", np.arange(out), (1,), Edges.from_dense(second), np.zeros(out, np.float32), mean=True
            ),
        )
    )


def test_convolution_of_planes_by_hand():
    planes = np.ones((1, 3, 3))
    kernel = np.ones((1, 3, 3))
    np.testing.assert_array_equal(convolve_planes(planes, kernel, 1, 1)[0], [[4, 6, 4], [6, 9, 6], [4, 6, 4]])
    np.testing.assert_array_equal(convolve_planes(planes, kernel, 2, 1)[0], [[4, 4], [4, 4]])


def test_liveness_of_every_kind_of_node():
    # hidden: 0 live, 1 without input (constant), 2 without output (dead), 3 without either
    graph = chain(np.array([[1, 0], [0, 0], [0, 1], [0, 0]]), np.array([[1, 2, 0, 0]]))
    hidden = graph.liveness[1]
    assert hidden.varying.tolist() == [True, False, True, False]
    assert hidden.reaching.tolist() == [True, True, False, False]
    assert hidden.live.tolist() == [True, False, False, False]
    assert hidden.constant.tolist() == [False, True, False, False]
    count = graph.counts((4, 4))[1]
    assert (count.nodes, count.live_nodes, count.constant_nodes, count.with_input, count.with_output) == (4, 1, 1, 2, 2)
    assert (count.edges, count.live_edges, count.parameters) == (2, 1, 1 + 9)
    assert count.multiply_adds == 16 + 9 * 16


def test_constant_node_becomes_a_bias_where_its_border_shows_as_a_plane():
    graph = chain(np.array([[1, 0], [0, 0]]), np.array([[1, 2]]), np.array([0, 3]))
    pruned = graph.pruned((4, 5))
    assert [level.nodes for level in pruned.levels] == [2, 1, 1]
    constant = pruned.levels[2].constant
    assert constant is not None
    assert pruned.image_size == (4, 5)
    assert constant.planes[0, 2, 2] == 2 * 3 * 45
    assert constant.planes[0, 0, 0] == 2 * 3 * (5 + 6 + 8 + 9)
    image = np.random.default_rng(0).standard_normal((2, 4, 5))
    np.testing.assert_allclose(compute_planes(pruned, image)[-1], compute_planes(graph, image)[-1], rtol=1e-6)


def test_constant_of_zero_vanishes():
    graph = chain(np.array([[1, 0], [0, 0]]), np.array([[1, 2]]), np.array([0, -3]))
    pruned = graph.pruned((4, 4))
    assert pruned.levels[2].constant is None
    assert pruned.image_size is None
    assert pruned.levels[2].bias.tolist() == [0]


def test_nothing_alive_is_told_with_the_stage():
    with pytest.raises(ValueError, match="second has no live edge"):
        chain(np.array([[1, 0], [0, 0]]), np.array([[0, 1]])).pruned((4, 4))
    with pytest.raises(ValueError, match="first has no live edge"):
        chain(np.zeros((2, 2)), np.ones((1, 2))).pruned((4, 4))


def test_nothing_is_removed_where_the_output_feeds_back():
    graph = chain(np.array([[1, 0], [0, 0], [0, 1]]), np.array([[1, 2, 0]]), np.array([0, 1, 0]))
    kept = ChannelGraph(graph.levels, removable=False)
    assert kept.liveness[1].reaching.all()


@pytest.mark.parametrize("seed", range(40))
def test_pruning_keeps_the_function(seed: int):
    graph, size = random_graph(seed)
    image = np.random.default_rng(seed).standard_normal((graph.levels[0].nodes, *size))
    pruned = graph.pruned(size)
    whole, rest = compute_planes(graph, image)[-1], compute_planes(pruned, image)[-1]
    np.testing.assert_allclose(rest, whole, atol=1e-5 * abs(whole).max())
    inner = pruned.liveness[1:-1]
    assert all(alive.live.all() for alive in inner)
    live = sum(count.live_edges for count in graph.counts(size))
    assert pruned.edge_count >= live > 0


def test_sizes_must_fit():
    graph = chain(np.ones((2, 2)), np.ones((1, 2)))
    window = ChannelGraph((*graph.levels[:2], Level(**{**vars(graph.levels[2]), "window": (0, 6, 0, 2)})))
    with pytest.raises(ValueError, match="too small"):
        window.sizes((5, 5))
    assert window.sizes((6, 6))[-1] == ((6, 6), (1, 1))
