"""The table of engines: an entry from outside is used as it says, and so is a network that tells its own graph."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from models.sparse import ENGINES as TABLE
from models.sparse import compile_graph, engine_names
from models.sparse.engines import Engine, UnavailableError, choose_engine
from models.sparse.equality import relative_difference
from models.sparse.graph import ChannelGraph
from models.sparse.layers import bias_of, convolution_edges, input_level, linear_level, sum_level
from models.sparse.torch_engines import PrunedGraph
from tests.models.sparse.networks import mobilenet, tiny, wired_inside


def difference(network: nn.Module, compiled: nn.Module, images: torch.Tensor) -> float:
    with torch.no_grad():
        return relative_difference(compiled(images), network(images))


def test_the_table_is_complete():
    assert engine_names() == ("pruned", "csr", "dgl", "native", "native_half", "auto")
    for name, engine in TABLE.items():
        assert engine.name == name
        assert engine.description
        assert callable(engine.maker())
        assert engine.fallback is None or engine.fallback in TABLE
    with pytest.raises(ValueError, match="no engine 'fast'; there are pruned, csr, dgl, native, native_half, auto"):
        choose_engine("fast")


class Twice(nn.Module):
    """An engine of somebody else: two halves of a batch one after the other."""

    def __init__(self, graph: ChannelGraph, *_) -> None:
        super().__init__()
        self.halves = PrunedGraph(graph)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.halves(half) for half in images.chunk(2)])


@pytest.fixture
def twice(monkeypatch: pytest.MonkeyPatch) -> Engine:
    engine = Engine("twice", "halves of a batch", Twice, one_size=True)
    monkeypatch.setitem(TABLE, "twice", engine)
    return engine


@pytest.mark.usefixtures("twice")
def test_an_engine_from_outside_is_used():
    for network, size in ((mobilenet(), 32), (wired_inside(), 21), (tiny("continuous_time"), 24)):
        compiled = compile_graph(network, "twice", image_size=size)
        assert compiled.engine == "twice"
        assert any(isinstance(module, Twice) for module in compiled.modules())
        assert difference(network, compiled, torch.randn(3, 3, size, size)) < 2e-3
    with pytest.raises(ValueError, match=r"twice runs in float32, not torch\.bfloat16; any precision: pruned"):
        compile_graph(mobilenet(), "twice", dtype=torch.bfloat16)


def test_an_engine_says_what_it_needs(monkeypatch: pytest.MonkeyPatch, twice: Engine):
    def missing() -> None:
        raise UnavailableError("A second half is missing.")

    monkeypatch.setitem(TABLE, "twice", replace(twice, needs=missing))
    with pytest.raises(UnavailableError, match="second half is missing"):
        compile_graph(mobilenet(), "twice")
    monkeypatch.setitem(TABLE, "twice", replace(twice, needs=missing, fallback="pruned"))
    with pytest.warns(UserWarning, match="missing. The engine pruned takes the place of twice"):
        assert compile_graph(mobilenet(), "twice").engine == "pruned"
    monkeypatch.setitem(TABLE, "twice", replace(twice, devices=("cuda",)))
    with pytest.raises(ValueError, match="twice runs on a GPU; the network is on cpu"):
        compile_graph(mobilenet(), "twice")


def test_auto_measures_the_engines_that_may_be_measured(monkeypatch: pytest.MonkeyPatch, twice: Engine):
    made = []

    def make(name: str):
        return lambda graph, size, options: (made.append(name), PrunedGraph(graph))[1]

    for name in list(TABLE):
        monkeypatch.setitem(TABLE, name, replace(TABLE[name], make=make(name)))
    monkeypatch.setitem(TABLE, "far", replace(twice, name="far", devices=("cuda",), make=make("far")))
    compile_graph(mobilenet())
    assert set(made) == {"pruned", "csr", "native", "twice"}
    made.clear()
    compile_graph(mobilenet(), dtype=torch.bfloat16)
    assert set(made) == {"pruned"}


class Pair(nn.Module):
    """A network of somebody else: a 1x1 convolution, ReLU and the mean, which tells its channel graph itself."""

    def __init__(self) -> None:
        super().__init__()
        self.image_size = 9
        self.mix = nn.Conv2d(3, 5, 1)
        self.linear = nn.Linear(5, 4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.linear(self.mix(images).relu().mean((2, 3)))

    def channel_graphs(self) -> dict[str, ChannelGraph]:
        hidden = sum_level("mix", "mix", (0,), convolution_edges(self.mix), bias_of(self.mix.bias, 5))
        levels = (input_level(3), replace(hidden, relu=True, mean=True), linear_level("linear", 1, self.linear))
        return {"": ChannelGraph(levels)}


@pytest.mark.parametrize("engine", ["pruned", "csr", "native", "auto"])
def test_a_network_from_outside_is_compiled(engine: str):
    torch.manual_seed(0)
    network = Pair().eval()
    compiled = compile_graph(network, engine, threads=1)
    assert difference(network, compiled, torch.randn(2, 3, 9, 9)) < 1e-5
    assert "9x9" in compiled.sizes or "any" in compiled.sizes
