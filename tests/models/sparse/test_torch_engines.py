from __future__ import annotations

import builtins

import numpy as np
import pytest
import torch

from models.sparse.graph import compute_planes
from models.sparse.torch_engines import CudaGraphs, PrunedGraph, csr_graph, dgl_graph
from tests.models.sparse.random_graphs import random_graph

ENGINES = {"pruned": PrunedGraph, "csr": csr_graph, "dgl": dgl_graph}


@pytest.fixture
def _dgl(request: pytest.FixtureRequest) -> None:
    if request.getfixturevalue("engine") == "dgl":
        pytest.importorskip("dgl", exc_type=Exception)


@pytest.mark.usefixtures("_dgl")
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("seed", range(12))
def test_random_graphs(engine: str, seed: int):
    graph, size = random_graph(seed)
    images = np.random.default_rng(seed).standard_normal((3, graph.levels[0].nodes, *size)).astype(np.float32)
    found = ENGINES[engine](graph.pruned(size))(torch.from_numpy(images)).numpy()
    for image, result in zip(images, found, strict=True):
        expected = compute_planes(graph, image)[-1]
        expected = expected[:, 0, 0] if graph.flat else expected
        np.testing.assert_allclose(result, expected, atol=1e-5 * abs(expected).max())


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_pruned_in_other_precisions(dtype: torch.dtype):
    graph, size = random_graph(1)
    image = np.random.default_rng(1).standard_normal((1, graph.levels[0].nodes, *size))
    expected = compute_planes(graph, image[0])[-1].reshape(-1)
    result = PrunedGraph(graph.pruned(size)).to(dtype)(torch.from_numpy(image).to(dtype))
    assert result.dtype == dtype
    tolerance = 3e-2 if dtype == torch.bfloat16 else 1e-5
    np.testing.assert_allclose(result.double().numpy().reshape(-1), expected, atol=tolerance * abs(expected).max())


def test_an_empty_batch():
    graph, size = random_graph(2)
    images = torch.zeros(0, graph.levels[0].nodes, *size)
    for make in (PrunedGraph, csr_graph):
        assert len(make(graph.pruned(size))(images)) == 0


def test_dgl_missing_is_one_sentence(monkeypatch: pytest.MonkeyPatch):
    real = builtins.__import__

    def without_dgl(name: str, *args, **kwargs):
        if name == "dgl":
            raise ImportError("no library of that name")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_dgl)
    graph, size = random_graph(0)
    with pytest.raises(ValueError, match="needs the package dgl, which cannot be imported"):
        dgl_graph(graph.pruned(size))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_cuda_graphs_replay_what_was_recorded():
    graph, size = random_graph(1)
    module = PrunedGraph(graph.pruned(size)).cuda()
    recorded = CudaGraphs(module)
    for batch in (2, 3, 2):
        images = torch.randn(batch, graph.levels[0].nodes, *size, device="cuda")
        torch.testing.assert_close(recorded(images), module(images), rtol=1e-4, atol=1e-4)
