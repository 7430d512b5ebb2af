"""The check of an engine against its network: it finds what is wrong, and says where."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from models.sparse import ENGINES as TABLE
from models.sparse import EngineError, compile_graph
from models.sparse import compile as compile_module
from models.sparse.equality import full_float32, relative_difference
from models.sparse.torch_engines import PrunedGraph
from tests.models.sparse.networks import mobilenet, wired_inside


def test_the_check_names_the_stage_that_is_wrong(monkeypatch: pytest.MonkeyPatch):
    real = compile_module.channel_graphs

    def wrong(network: nn.Module) -> dict:
        (graph,) = real(network).values()
        levels = list(graph.levels)
        i = next(i for i, level in enumerate(levels) if level.stage == "layers.1.graph")
        levels[i] = replace(levels[i], edges=replace(levels[i].edges, weight=levels[i].edges.weight * 1.1))
        return {"": replace(graph, levels=tuple(levels))}

    monkeypatch.setattr(compile_module, "channel_graphs", wrong)
    with pytest.raises(EngineError, match=r"pruned differs .* from stage layers\.1\.graph on"):
        compile_graph(mobilenet(), "pruned")
    compile_graph(mobilenet(), "pruned", check=False)


def test_the_check_finds_a_wrong_engine(monkeypatch: pytest.MonkeyPatch):
    def wrong(graph, *_) -> nn.Module:
        engine = PrunedGraph(graph)
        for level in engine.levels:
            if level.weight.shape[1] > 20:  # the last stage and the classifier
                level.bias += 1
        return engine

    monkeypatch.setitem(TABLE, "pruned", replace(TABLE["pruned"], make=wrong))
    with pytest.raises(EngineError, match=r"from stage layers\.2\.graph on"):
        compile_graph(mobilenet(), "pruned")


def test_the_check_finds_values_that_are_no_numbers():
    assert relative_difference(torch.tensor([float("nan")]), torch.ones(1)) == np.inf


def test_the_check_names_the_wired_layer_that_is_wrong(monkeypatch: pytest.MonkeyPatch):
    def wrong(graph, *_) -> nn.Module:
        engine = PrunedGraph(graph)
        if graph.levels[-1].nodes == 24:
            engine.levels[-1].bias += 1
        return engine

    monkeypatch.setitem(TABLE, "pruned", replace(TABLE["pruned"], make=wrong))
    with pytest.raises(EngineError, match="from stage 6 on"):
        compile_graph(wired_inside(), "pruned", image_size=21)


def test_differences_are_relative_to_the_largest_value_expected():
    assert relative_difference(torch.tensor([1.0, 4.5]), torch.tensor([1.0, 4.0])) == 0.125
    assert relative_difference(torch.tensor([0.5]), torch.zeros(1)) == 0.5


def test_settings_of_cudnn_come_back():
    before = torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark
    with full_float32():
        assert not torch.backends.cudnn.allow_tf32
    assert (torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark) == before
