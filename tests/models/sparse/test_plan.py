"""Properties of plans: every edge is summed once, and planes that are needed at the same time do not overlap."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.sparse.graph import ChannelGraph, Depthwise, Edges, InstanceNorm, Level
from models.sparse.plan import make_plan
from models.sparse.plan_spec import (
    HALF_UNIT,
    ROWS_AT_ONCE,
    UNIT,
    Copies,
    Destination,
    ExecutionPlan,
    LevelKind,
    PlannedLevel,
    WorkSchedule,
)
from tests.models.sparse.random_graphs import random_graph

NARROW, WIDE = (3, 1), (8, 8)
PLANE_KINDS = (LevelKind.SUM_PLANES, LevelKind.SUM_COPIES, LevelKind.SUM_ROWS)


def planned(seed: int, threads: int, tiles: tuple[int, int], half: bool) -> tuple[ChannelGraph, ExecutionPlan]:
    graph, size = random_graph(seed)
    pruned = graph.pruned(size)
    return pruned, make_plan(pruned, size, threads, *tiles, half)


any_plan = st.builds(
    planned, st.integers(0, 2**20), st.integers(1, 5), st.sampled_from([NARROW, (4, 2), WIDE]), st.booleans()
)
many = settings(max_examples=60, deadline=None)


def node_edges(schedule: WorkSchedule) -> dict[int, list[tuple[int, float]]]:
    """Of each node, offsets and weights in the order in which they are summed; the same for every range of rows."""
    found: dict[tuple[int, int], list[tuple[int, float]]] = {}
    for chunk in schedule.chunk:
        if chunk["row_begin"] == chunk["row_end"]:  # more threads than rows
            continue
        mine: dict[int, list[tuple[int, float]]] = {node: [] for node in range(chunk["node_begin"], chunk["node_end"])}
        for block in schedule.block[chunk["block_begin"] : chunk["block_end"]]:
            node_at, edge_at = block["node_begin"], block["edge_begin"]
            for run in schedule.run[block["run_begin"] : block["run_end"]]:
                for node in schedule.order[node_at : node_at + run["nodes"]]:
                    edges = schedule.edge[edge_at : edge_at + run["edges"]]
                    mine[chunk["node_begin"] + node] += [(int(e["offset"]), float(e["weight"])) for e in edges]
                    edge_at += run["edges"]
                node_at += run["nodes"]
        for node, edges in mine.items():
            assert found.setdefault((node, chunk["row_begin"]), edges) is edges, "a node twice for the same rows"
    result: dict[int, list[tuple[int, float]]] = {}
    for (node, _), edges in found.items():
        assert result.setdefault(node, edges) == edges
    return result


def columns_of(plan: ExecutionPlan, graph: ChannelGraph, level: Level) -> dict[int, int]:
    """Which column of the level's edges the plane at a place is."""
    places: list[int] = []
    for source in level.sources:
        place, stride = place_of(plan, source)
        places += [place + stride * node for node in range(graph.levels[source].nodes)]
    return {place: column for column, place in enumerate(places)}


def place_of(plan: ExecutionPlan, index: int) -> tuple[int, int]:
    if index == 0:
        return plan.input_place or 0, plan.input_stride
    return plan.levels[index - 1].place, plan.levels[index - 1].stride


def tap_of(offset: int, place: PlannedLevel, copies: Copies, columns: dict[int, int]) -> tuple[int, int, int]:
    """Column and tap that an offset into copied sources means."""
    if place.kind == LevelKind.SUM_COPIES:
        assert copies.y is not None
        assert copies.x is not None
        number, rest = divmod(offset, (place.tile + 1) * place.unit)
        assert rest == 0
        return columns[int(copies.source[number])], int(copies.y[number]), int(copies.x[number])
    row, x = divmod(offset, copies.row_length)
    row, phase = divmod(row, copies.stride)
    column, y = divmod(row, (ROWS_AT_ONCE - 1) * copies.stride + copies.kernel_rows)
    return column, y, (x - copies.row_border) * copies.stride + phase + copies.padding


def dense_of(plan: ExecutionPlan, graph: ChannelGraph, index: int, schedule: WorkSchedule) -> np.ndarray:
    """The weights [nodes, columns, kernel height, kernel width] that a level of the plan really sums with; constant
    planes are left out."""
    level, place = graph.levels[index], plan.levels[index - 1]
    assert level.edges is not None
    columns = columns_of(plan, graph, level)
    constants = {place for place, _ in plan.constants}
    weight = np.zeros((level.nodes, len(columns), *level.edges.kernel), np.float32)
    for node, edges in node_edges(schedule).items():
        for offset, value in edges:
            if place.copies is None and offset in constants:
                assert value == 1
                continue
            tap = (columns[offset], 0, 0) if place.copies is None else tap_of(offset, place, place.copies, columns)
            assert weight[(node, *tap)] == 0, "an edge twice"
            weight[(node, *tap)] = value
    return weight


@many
@given(any_plan)
def test_every_edge_is_summed_exactly_once(drawn: tuple[ChannelGraph, ExecutionPlan]):
    graph, plan = drawn
    for index, level in enumerate(graph.levels[1:], 1):
        assert level.edges is not None
        for schedule in plan.levels[index - 1].schedules:
            np.testing.assert_array_equal(dense_of(plan, graph, index, schedule), level.edges.dense())


@many
@given(any_plan)
def test_every_constant_plane_is_added_once(drawn: tuple[ChannelGraph, ExecutionPlan]):
    graph, plan = drawn
    places = iter(plan.constants)
    for level, place in zip(graph.levels[1:], plan.levels, strict=True):
        if level.constant is None:
            continue
        edges = node_edges(place.schedules[0])
        for node, plane in zip(level.constant.nodes, level.constant.planes, strict=True):
            where, values = next(places)
            np.testing.assert_array_equal(values, plane.reshape(-1))
            assert edges[int(node)].count((where, 1.0)) == 1
    assert next(places, None) is None


@many
@given(any_plan)
def test_edges_over_values_are_those_of_the_graph(drawn: tuple[ChannelGraph, ExecutionPlan]):
    graph, plan = drawn
    for level, place in zip(graph.levels[1:], plan.levels, strict=True):
        if place.kind in PLANE_KINDS:
            continue
        values = place.values
        assert values is not None
        assert level.edges is not None
        where = [place_of(plan, s)[0] + node for s in level.sources for node in range(graph.levels[s].nodes)]
        found = np.zeros((level.nodes, plan.values), np.float32)
        if place.kind == LevelKind.SUM_VALUES_DENSE:
            assert values.dense is not None
            assert values.dense.shape[1] % plan.levels[0].unit == 0
            assert values.begin + values.dense.shape[1] <= plan.values
            found[:, values.begin : values.begin + values.dense.shape[1]] = values.dense
        else:
            for node in range(level.nodes):
                chosen = slice(values.indptr[node], values.indptr[node + 1])
                found[node, values.index[chosen]] = values.weight[chosen]
        np.testing.assert_array_equal(found[:, where], level.edges.dense()[:, :, 0, 0])
        found[:, where] = 0
        assert not found.any(), "weights of values that are no sources"


@many
@given(any_plan)
def test_every_node_and_row_is_in_one_share(drawn: tuple[ChannelGraph, ExecutionPlan]):
    _, plan = drawn
    for place in plan.levels:
        if place.kind not in PLANE_KINDS:
            assert place.schedules == []
            continue
        assert len(place.schedules) == (1 if plan.threads == 1 else 2)
        for schedule, shares in zip(place.schedules, (1, plan.threads), strict=False):
            assert len(schedule.share_begin) == shares + 1
            assert schedule.share_begin[0] == 0
            assert schedule.share_begin[-1] == len(schedule.chunk)
            assert (np.diff(schedule.share_begin) >= 0).all()
            seen = np.zeros((place.level.nodes, place.out[0]), int)
            for chunk in schedule.chunk:
                seen[chunk["node_begin"] : chunk["node_end"], chunk["row_begin"] : chunk["row_end"]] += 1
            assert (seen == 1).all()


@many
@given(any_plan)
def test_the_first_block_starts_every_node_and_no_block_has_a_node_twice(drawn: tuple[ChannelGraph, ExecutionPlan]):
    _, plan = drawn
    for place in plan.levels:
        for schedule in place.schedules:
            for chunk in schedule.chunk:
                assert chunk["block_begin"] < chunk["block_end"]
                nodes = chunk["node_end"] - chunk["node_begin"]
                for number in range(chunk["block_begin"], chunk["block_end"]):
                    block = schedule.block[number]
                    runs = schedule.run[block["run_begin"] : block["run_end"]]
                    order = schedule.order[block["node_begin"] : block["node_begin"] + runs["nodes"].sum()]
                    assert len(set(order)) == len(order)
                    last = number == chunk["block_end"] - 1 and place.level.relu and place.level.norm is None
                    if number == chunk["block_begin"] or last:
                        assert sorted(order) == list(range(nodes))
                    assert (np.diff(runs["edges"]) > 0).all()


@many
@given(any_plan)
def test_runs_of_the_same_sources_are_marked(drawn: tuple[ChannelGraph, ExecutionPlan]):
    _, plan = drawn
    for place in plan.levels:
        for schedule in place.schedules:
            for block in schedule.block:
                at = block["edge_begin"]
                for run in schedule.run[block["run_begin"] : block["run_end"]]:
                    count = run["nodes"] * run["edges"]
                    grid = schedule.edge["offset"][at : at + count].reshape(run["nodes"], run["edges"])
                    assert bool(run["same"]) == all((row == grid[0]).all() for row in grid)
                    at += count


@many
@given(st.integers(0, 2**20), st.integers(2, 5))
def test_the_order_of_a_node_s_sum_does_not_depend_on_the_threads(seed: int, threads: int):
    _, alone = planned(seed, 1, WIDE, half=False)
    _, together = planned(seed, threads, WIDE, half=False)
    for one, other in zip(alone.levels, together.levels, strict=True):
        orders = [node_edges(schedule) for schedule in (*one.schedules, *other.schedules)]
        assert all(order == orders[0] for order in orders)


def regions(plan: ExecutionPlan, graph: ChannelGraph) -> list[tuple[int, int, int, int]]:
    """Begin and end in the arena, first and last level, of all that lies there."""
    last_use = {index: index for index in range(len(graph.levels))}
    for index, level in enumerate(graph.levels):
        last_use.update(dict.fromkeys(level.sources, index))
    found = [
        (place.place, place.place + place.stride * place.level.nodes, index, last_use[index])
        for index, place in enumerate(plan.levels, 1)
        if place.destination == Destination.TO_ARENA
    ]
    if not plan.input_is_value and plan.input_place is not None:
        end = plan.input_place + plan.input_stride * plan.input_planes
        found.append((plan.input_place, end, 0, last_use[0]))
    return found + [(at, at + len(plane), 0, len(graph.levels)) for at, plane in plan.constants]


@many
@given(any_plan)
def test_planes_that_are_needed_at_once_do_not_overlap(drawn: tuple[ChannelGraph, ExecutionPlan]):
    graph, plan = drawn
    found = regions(plan, graph)
    for i, (begin, end, first, last) in enumerate(found):
        assert 0 <= begin < end <= plan.arena - 2 * plan.levels[0].unit
        for other_begin, other_end, other_first, other_last in found[:i]:
            apart = end <= other_begin or other_end <= begin
            assert apart or last < other_first or other_last < first


@many
@given(any_plan)
def test_values_do_not_overlap(drawn: tuple[ChannelGraph, ExecutionPlan]):
    _, plan = drawn
    taken = [(plan.input_place, plan.input_planes)] if plan.input_is_value else []
    taken += [(p.place, p.level.nodes) for p in plan.levels if p.destination == Destination.TO_VALUES]
    taken.sort()
    for (begin, count), (following, _) in pairwise(taken):
        assert begin + count <= following
    assert all(begin + count <= plan.values for begin, count in taken)


def reads_to(place: PlannedLevel) -> int:
    """Numbers from a source's beginning that a node's sums may read."""
    positions = place.sums[0] * place.sums[1]
    return -(-positions // place.unit) * place.unit


@many
@given(any_plan)
def test_offsets_stay_where_sources_are(drawn: tuple[ChannelGraph, ExecutionPlan]):
    graph, plan = drawn
    for index, place in enumerate(plan.levels, 1):
        for schedule in place.schedules:
            if not len(schedule.edge):
                continue
            end = int(schedule.edge["offset"].max()) + reads_to(place)
            if place.kind == LevelKind.SUM_PLANES:
                assert end <= plan.arena
                inside = [r for r in regions(plan, graph) if r[2] < index <= r[3] or r[3] == len(graph.levels)]
                for offset in np.unique(schedule.edge["offset"]):
                    assert any(begin <= offset < stop for begin, stop, *_ in inside)
            elif place.kind == LevelKind.SUM_COPIES:
                assert int(schedule.edge["offset"].max()) < len(place.copies.source) * (place.tile + 1) * place.unit
            else:
                rows = (ROWS_AT_ONCE - 1) * place.copies.stride + place.copies.kernel_rows
                length = rows * place.copies.stride * place.copies.row_length
                assert int(schedule.edge["offset"].max()) < len(place.copies.source) * length


@many
@given(any_plan)
def test_tiles_fit_the_registers(drawn: tuple[ChannelGraph, ExecutionPlan]):
    _, plan = drawn
    for place in plan.levels:
        assert 1 <= place.tile <= 8
        assert 1 <= place.strip_rows <= place.sums[0]
        if place.level.norm is not None or place.level.mean:
            assert place.strip_rows == place.sums[0] or place.kind not in PLANE_KINDS


def level(name: str, sources: tuple[int, ...], weight: np.ndarray, padding: int = 0, **fields: object) -> Level:
    edges = Edges.from_dense(weight.astype(np.float32), 1, padding)
    nodes = len(weight)
    return Level(name, name, np.arange(nodes), sources, edges, np.zeros(nodes, np.float32), **fields)


def entry(channels: int) -> Level:
    return Level("input", "", np.arange(channels), bias=np.zeros(channels, np.float32))


def test_the_image_is_read_in_place_by_kernels_alone():
    kernel, plain = np.ones((4, 2, 3, 3)), np.ones((4, 2))
    stem = level("stem", (0,), kernel, 1)
    graph = ChannelGraph((entry(2), stem, level("out", (1,), np.eye(4))), flat=False)
    plan = make_plan(graph, (20, 20), 1, *WIDE)
    assert plan.input_place is None
    assert plan.levels[0].copies.of_input
    plan = make_plan(graph, (20, 20), 1, *WIDE, half=True)  # the image is of floats, the planes are not
    assert plan.input_place is not None
    assert not plan.levels[0].copies.of_input
    both = ChannelGraph(
        (entry(2), stem, level("beside", (0,), plain), level("out", (1, 2), np.ones((3, 8)))), flat=False
    )
    plan = make_plan(both, (20, 20), 1, *WIDE)
    assert plan.input_place is not None
    assert not plan.levels[0].copies.of_input


def test_wide_rows_of_all_taps_are_dealt_out_and_narrow_ones_copied():
    complete, holed = np.ones((4, 2, 3, 3)), np.ones((4, 2, 3, 3))
    holed[1, 0, 2, 2] = 0
    for half, unit in ((False, UNIT), (True, HALF_UNIT)):
        graph = ChannelGraph((entry(2), level("stem", (0,), complete, 1)), flat=False)
        for width, kind in ((unit, LevelKind.SUM_ROWS), (unit - 1, LevelKind.SUM_COPIES)):
            assert make_plan(graph, (7, width), 1, *WIDE, half).levels[0].kind == kind
    graph = ChannelGraph((entry(2), level("stem", (0,), holed, 1)), flat=False)
    assert make_plan(graph, (7, UNIT), 1, *WIDE).levels[0].kind == LevelKind.SUM_COPIES


def test_what_the_kernel_cannot_run_is_refused():
    eye = np.eye(4)
    norm = InstanceNorm(np.ones(4, np.float32), np.zeros(4, np.float32))
    depthwise = Depthwise(np.ones((4, 3, 3), np.float32), np.zeros(4, np.float32))
    planes, means = level("planes", (0,), eye, depthwise=depthwise), level("means", (1,), eye, mean=True)
    for last, message in (
        (level("mixed", (1, 2), np.ones((2, 8))), "mixed has both planes and single values as sources"),
        (level("kernel", (2,), np.ones((2, 4, 3, 3)), 1), "kernel applies a kernel or a norm to single values"),
        (level("norm", (2,), eye, norm=norm), "norm applies a kernel or a norm to single values"),
        (level("depthwise", (2,), eye, depthwise=depthwise), "depthwise applies a kernel or a norm to single values"),
    ):
        with pytest.raises(ValueError, match=message):
            make_plan(ChannelGraph((entry(4), planes, means, last)), (1, 1), 1, *WIDE)


def test_images_of_one_pixel_are_values():
    graph = ChannelGraph((entry(4), level("hidden", (0,), np.eye(4), relu=True), level("out", (1,), np.ones((3, 4)))))
    plan = make_plan(graph, (1, 1), 2, *WIDE)
    assert plan.input_is_value
    assert [place.kind for place in plan.levels] == [LevelKind.SUM_VALUES_SPARSE, LevelKind.SUM_VALUES_DENSE]
    assert not make_plan(replace(graph, flat=False), (1, 1), 2, *WIDE).input_is_value
