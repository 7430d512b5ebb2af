"""How work is dealt out: evenly among threads, in blocks whose sources stay in the nearest cache."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.sparse.graph import Depthwise, Edges, Level
from models.sparse.plan_spec import BYTES, UNIT, Destination, LevelKind, PlannedLevel
from models.sparse.sources import PlacedEdges
from models.sparse.work import SOURCES_NEAR, SUMS_NEAR, block_of_source, node_cost, schedules, split_evenly

costs = st.lists(st.integers(1, 1000), min_size=1, max_size=60)


def a_level(
    weight: np.ndarray,
    kind: LevelKind = LevelKind.SUM_PLANES,
    size: tuple[int, int] = (20, 20),
    depthwise: Depthwise | None = None,
    destination: Destination = Destination.TO_ARENA,
    tile: int = 4,
) -> tuple[PlannedLevel, PlacedEdges]:
    """A level over planes that lie 1024 floats apart, and its edges."""
    nodes = len(weight)
    bias = np.zeros(nodes, np.float32)
    level = Level("level", "", np.arange(nodes), (0,), Edges.from_dense(weight), bias, depthwise=depthwise)
    out = level.convolved_size(size)
    planned = PlannedLevel(level, kind, destination, size, out, 0, 1024, tile=tile, strip_rows=size[0])
    row, column = np.nonzero(weight)
    return planned, PlacedEdges(row, column * 1024, weight[row, column].astype(np.float32))


@given(costs, st.integers(1, 9))
def test_parts_cost_about_the_same(cost: list[int], parts: int):
    bounds = split_evenly(np.array(cost, np.float64), parts)
    assert len(bounds) == parts + 1
    assert bounds[0] == 0
    assert bounds[-1] == len(cost)
    assert bounds == sorted(bounds)
    sums = [sum(cost[begin:end]) for begin, end in pairwise(bounds)]
    assert max(sums) <= sum(cost) / parts + max(cost)


@given(st.lists(st.integers(0, 10_000), max_size=200), st.integers(1, 50))
def test_blocks_hold_few_sources_and_come_in_their_order(offsets: list[int], most: int):
    offset = np.array(offsets, np.int64)
    blocks = block_of_source(offset, most)
    assert len(blocks) == len(offset)
    members = [set(offset[blocks == number]) for number in np.unique(blocks)]
    assert all(0 < len(sources) <= most for sources in members)
    for before, after in pairwise(members):
        assert max(before) < min(after)
    if len(offset):
        assert len(members) == -(-len(set(offsets)) // most)


def test_a_node_costs_its_edges_and_its_own_operations():
    plain, _ = a_level(np.ones((3, 5)))
    cost = node_cost(plain, np.array([0, 1, 5]))
    assert (np.diff(cost) > 0).all()
    np.testing.assert_allclose(np.diff(cost), [400 / UNIT + 1, 4 * (400 / UNIT + 1)])
    convolution = Depthwise(np.ones((3, 3, 3), np.float32), np.zeros(3, np.float32))
    convolved, _ = a_level(np.ones((3, 5)), depthwise=convolution)
    assert (node_cost(convolved, np.array([0, 1, 5])) > cost).all()


@given(st.integers(0, 2**16), st.integers(2, 6))
def test_shares_of_threads_cost_about_the_same(seed: int, threads: int):
    draw = np.random.default_rng(seed)
    weight = (draw.random((60, 40)) < draw.random((60, 1))).astype(np.float32)
    planned, edges = a_level(weight)
    alone, together = schedules(planned, edges, threads)
    assert len(alone.share_begin) == 2
    cost = node_cost(planned, (weight != 0).sum(axis=1))
    shares = []
    for share in range(threads):
        chunks = together.chunk[together.share_begin[share] : together.share_begin[share + 1]]
        shares.append(sum(cost[chunk["node_begin"] : chunk["node_end"]].sum() for chunk in chunks))
    assert np.isclose(sum(shares), cost.sum())
    assert max(shares) <= cost.sum() / threads + cost.max() + 1e-6


def test_blocks_and_chunks_stay_in_the_caches():
    planned, edges = a_level(np.ones((700, 500)), size=(56, 56))
    (schedule,) = schedules(planned, edges, 1)
    assert len(schedule.chunk) > 1
    for chunk in schedule.chunk:
        nodes = chunk["node_end"] - chunk["node_begin"]
        assert nodes <= max(32, SUMS_NEAR // (4 * 56 * 56))
        for block in schedule.block[chunk["block_begin"] : chunk["block_end"]]:
            runs = schedule.run[block["run_begin"] : block["run_end"]]
            count = (runs["nodes"] * runs["edges"]).sum()
            touched = schedule.edge["offset"][block["edge_begin"] : block["edge_begin"] + count]
            assert len(np.unique(touched)) * planned.tile * BYTES <= SOURCES_NEAR


def test_copies_are_made_once_and_threads_take_rows():
    planned, edges = a_level(np.ones((700, 5)), LevelKind.SUM_ROWS, size=(30, 20))
    alone, together = schedules(planned, edges, 4)
    assert len(alone.chunk) == 1
    assert [(c["node_begin"], c["node_end"]) for c in together.chunk] == [(0, 700)] * 4
    assert [(c["row_begin"], c["row_end"]) for c in together.chunk] == [(0, 7), (7, 15), (15, 22), (22, 30)]


@pytest.mark.parametrize("reason", ["narrow rows", "an output", "only padding is seen"])
def test_threads_take_nodes_where_rows_may_not_be_split(reason: str):
    padded = Depthwise(np.ones((700, 3, 3), np.float32), np.zeros(700, np.float32), padding=3)
    planned, edges = a_level(
        np.ones((700, 5)),
        LevelKind.SUM_COPIES,
        size=(30, UNIT - 1 if reason == "narrow rows" else 20),
        destination=Destination.TO_OUTPUT if reason == "an output" else Destination.TO_ARENA,
        depthwise=padded if reason == "only padding is seen" else None,
    )
    _, together = schedules(planned, edges, 4)
    bounds = [*together.chunk["node_begin"], together.chunk["node_end"][-1]]
    np.testing.assert_allclose(bounds, [0, 175, 350, 525, 700], atol=1)
    assert all((c["row_begin"], c["row_end"]) == (0, planned.out[0]) for c in together.chunk)


def test_more_threads_than_nodes():
    planned, edges = a_level(np.ones((2, 3)))
    _, together = schedules(planned, edges, 8)
    assert len(together.share_begin) == 9
    assert [c["node_begin"] for c in together.chunk] == [0, 1]


def test_a_level_without_edges():
    planned, edges = a_level(np.zeros((4, 3)))
    (schedule,) = schedules(planned, edges, 1)
    assert len(schedule.edge) == 0
    assert len(schedule.block) == 1, "the bias is set all the same"
    assert sorted(schedule.order) == [0, 1, 2, 3]
