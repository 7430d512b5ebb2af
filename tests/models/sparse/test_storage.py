from __future__ import annotations

import io
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.sparse.graph import ChannelGraph, compute_planes
from models.sparse.storage import load, save, validate
from tests.models.sparse.random_graphs import random_graph


@pytest.mark.parametrize("seed", range(12))
def test_a_graph_comes_back_whole(seed: int, tmp_path: Path):
    graph, size = random_graph(seed)
    for stored in (graph, graph.pruned(size)):
        save(stored, tmp_path / "graph.npz")
        back = load(tmp_path / "graph.npz")
        image = np.random.default_rng(seed).standard_normal((graph.levels[0].nodes, *size))
        np.testing.assert_array_equal(compute_planes(back, image)[-1], compute_planes(stored, image)[-1])
        assert (back.flat, back.image_size, back.kept) == (stored.flat, stored.image_size, stored.kept)
        assert [level.name for level in back.levels] == [level.name for level in stored.levels]


def spoil(graph: ChannelGraph, **fields: object) -> ChannelGraph:
    """The graph with fields of its second level's edges changed."""
    level = graph.levels[1]
    assert level.edges is not None
    return replace(
        graph, levels=(graph.levels[0], replace(level, edges=replace(level.edges, **fields)), *graph.levels[2:])
    )


def test_arrays_out_of_bounds_are_refused(tmp_path: Path):
    graph, _ = random_graph(3)
    edges = graph.levels[1].edges
    assert edges is not None
    beyond, backwards, short = edges.indices.copy(), edges.indptr.copy(), edges.indptr[:-1]
    beyond[0] = edges.columns
    backwards[1] = edges.count + 5
    not_finite = edges.weight.copy()
    not_finite[0] = np.nan
    for change in (
        {"indices": beyond},
        {"indices": -1 - beyond},
        {"indptr": backwards},
        {"indptr": short},
        {"weight": not_finite},
        {"weight": edges.weight[1:]},
        {"columns": edges.columns + 1},
        {"stride": 0},
        {"padding": -1},
    ):
        spoilt = spoil(graph, **change)
        with pytest.raises(ValueError, match="level"):
            validate(spoilt)
        save(spoilt, tmp_path / "graph.npz")
        with pytest.raises(ValueError, match="does not hold a sound channel graph"):
            load(tmp_path / "graph.npz")


def test_a_level_may_only_use_earlier_ones():
    graph, _ = random_graph(0)
    for sources in ((1,), (-1,), (0, 0), ()):
        level = replace(graph.levels[1], sources=sources)
        with pytest.raises(ValueError, match="level"):
            validate(replace(graph, levels=(graph.levels[0], level, *graph.levels[2:])))


def test_other_files_are_refused(tmp_path: Path):
    path = tmp_path / "graph.npz"
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match="sound channel graph"):
        load(path)
    buffer = io.BytesIO()
    np.savez(buffer, header=np.array([{"a": 1}], dtype=object))
    path.write_bytes(buffer.getvalue())
    with pytest.raises(ValueError, match="sound channel graph"):
        load(path)
    path.write_bytes(pickle.dumps({"format": "channel graph 1"}))
    with pytest.raises(ValueError, match="sound channel graph"):
        load(path)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="sound channel graph"):
        load(path)
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "absent.npz")


def test_damaged_files_are_refused(tmp_path: Path):
    path = tmp_path / "graph.npz"
    save(random_graph(3)[0], path)
    content = path.read_bytes()
    draw = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        damaged = bytearray(content)
        for place in draw.integers(0, len(content), 4):
            damaged[place] = draw.integers(0, 256)
        path.write_bytes(damaged[: draw.integers(1, len(content) + 1)] if draw.random() < 0.3 else damaged)
        try:
            load(path)
        except ValueError:
            refused += 1
    assert refused > 200
