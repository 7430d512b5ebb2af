"""Checkpoints of 2019: read without executing anything, and evaluated with exactly the edges that acted then."""

import os
import pickle
import sys
import types

import numpy as np
import pytest
import torch

import models
import pretrained
from models.wirings.rules import graphs
from pretrained import safe_pickle

STAGES = ((4, 8, 1, 1), (8, 8, 2, 3))


def network(graph="dnw", **more):
    torch.manual_seed(0)
    return models.build_network(
        "mobilenetv1_like", classes=5, image_size=16, wiring=graph, prune_rate=0.5, stages=STAGES, **more
    ).eval()


def state_of_2019(net, idle=0.0):
    """What the code of 2019 would have saved for such a network, its idle entries at most `idle`."""
    state = {}
    for name, value in net.state_dict().items():
        if "wiring" not in name and not name.endswith("graph.weight"):
            state[f"module.{name}"] = value
    for name, graph in graphs(net):
        ones = graph.layout.to_matrix(torch.ones(graph.layout.possible))
        matrix = graph.layout.to_matrix(graph.weight.detach()) + (1 - ones) * idle * torch.rand(ones.shape)
        state[f"module.{name}.weight"] = matrix[:, :, None, None]
        if hasattr(graph.wiring, "mask"):
            state[f"module.{name}.mask"] = graph.layout.to_matrix(graph.wiring.mask.float())[:, :, None, None]
    return state


@pytest.fixture
def scalar_meter(monkeypatch):
    """An object of the class that the meters of 2019 were of."""
    module = types.ModuleType("train")
    module.ScalarMeter = type("ScalarMeter", (), {"__module__": "train"})
    monkeypatch.setitem(sys.modules, "train", module)
    meter = module.ScalarMeter()
    meter.values = [1.0, 2.0]
    return meter


@pytest.fixture
def checkpoint(tmp_path, scalar_meter, monkeypatch):
    """A function that writes a checkpoint as torch 1.0 did and returns its path."""

    def write(net, **more):
        path = tmp_path / "best.pt"
        meters = ({"CELoss": scalar_meter}, {"top1_accuracy": scalar_meter})
        contents = {
            "model": state_of_2019(net, **more),
            "optimizer": {"state": {}, "param_groups": [{"lr": 0.1, "params": [0, 1]}]},
            "last_epoch": 159,
            "best_val": np.float32(0.609),
            "iter": 62400.0,
            "meters": meters,
        }
        torch.save(contents, path, _use_new_zipfile_serialization=False)
        monkeypatch.delitem(sys.modules, "train", raising=False)  # the class does not exist where it is read
        return path

    return write


@pytest.mark.parametrize("graph", ["dnw", "random", "complete", "td", "dnw_no_update", "fine_tune", "reg_td"])
@pytest.mark.parametrize("small", [False, True])
def test_a_checkpoint_with_meters_evaluates_as_it_did(checkpoint, graph, small):
    trained = network(graph, small=small)
    state = pretrained.StateFile(checkpoint(trained)).weights(torch.manual_seed(1) and network(graph, small=small))
    again = network(graph, small=small)
    again.load_state_dict(state)
    images = torch.randn(2, 3, 16, 16)
    assert again.eval()(images).equal(trained(images))


def test_the_choice_of_2019_counts_idle_entries_and_drops_them_afterwards(checkpoint):
    trained = network()
    state = pretrained.StateFile(checkpoint(trained, idle=1.0)).weights(network())
    again = network()
    again.load_state_dict(state)
    again.eval()
    for (name, graph), (_, full) in zip(graphs(again), graphs(trained), strict=True):
        matrix = state_of_2019(trained, idle=0)[f"module.{name}.weight"]
        assert graph.weight.equal(graph.layout.from_matrix(matrix))
        assert int(graph.acting().sum()) <= graph.wiring.kept == full.wiring.kept
    last = dict(graphs(again))["layers.1.graph"]
    assert int(last.acting().sum()) < last.wiring.kept  # idle entries were among the strongest
    again.train()
    again.eval()
    assert int(last.acting().sum()) == last.wiring.kept


def test_exactly_the_edges_of_a_choice_over_the_whole_matrix_act(tmp_path):
    net = network()
    state = {name.removeprefix("module."): value for name, value in state_of_2019(net, idle=0.3).items()}
    torch.save(state, tmp_path / "bare.pt")
    again = network()
    again.load_state_dict(pretrained.StateFile(tmp_path / "bare.pt").weights(again))
    again.eval()
    for name, graph in graphs(again):
        whole = torch.from_numpy(np.load(_save(tmp_path, state[f"{name}.weight"]))).flatten()
        removed = whole.abs().argsort(stable=True)[: int(graph.wiring.prune_rate * len(whole))]
        whole[removed] = 0
        expected = graph.layout.to_matrix(graph.layout.from_matrix(whole.view(graph.layout.rows, -1)))
        assert graph.matrix().equal(expected)


def _save(folder, tensor):
    np.save(folder / "whole.npy", tensor.numpy())
    return folder / "whole.npy"


class Explosive:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("zipped", [False, True])
def test_nothing_in_a_checkpoint_is_executed(tmp_path, zipped):
    mark = tmp_path / "executed"
    contents = {"model": {"module.weight": torch.ones(2)}, "meters": Explosive(str(mark)), "x": [Explosive(str(mark))]}
    torch.save(contents, tmp_path / "trap.pt", _use_new_zipfile_serialization=zipped)
    assert safe_pickle.load(tmp_path / "trap.pt")["model"]["module.weight"].equal(torch.ones(2))
    assert not mark.exists()
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Explosive(str(mark))))
    with pytest.raises(ValueError, match="cannot be read as a PyTorch checkpoint"):
        safe_pickle.load(tmp_path / "plain.pt")
    assert not mark.exists()


def test_files_that_are_no_checkpoints_are_refused_in_a_sentence(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no file"):
        safe_pickle.load(tmp_path / "absent.pt")
    (tmp_path / "text.pt").write_text("not a checkpoint")
    with pytest.raises(ValueError, match="cannot be read as a PyTorch checkpoint"):
        safe_pickle.load(tmp_path / "text.pt")
    torch.save({"epoch": 3}, tmp_path / "empty.pt")
    with pytest.raises(ValueError, match="holds no weights"):
        pretrained.StateFile(tmp_path / "empty.pt").weights(network())


@pytest.mark.parametrize("cut", [10, 1000, -100])
def test_a_truncated_checkpoint_is_refused_in_a_sentence(checkpoint, cut):
    path = checkpoint(network())
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ValueError, match="cannot be read as a PyTorch checkpoint"):
        pretrained.StateFile(path).weights(network())


def test_a_graph_of_another_shape_says_what_differs(checkpoint):
    path = checkpoint(network())
    other = models.build_network("mobilenetv1_like", classes=5, image_size=16, stages=((4, 16, 1, 1),))
    with pytest.raises(ValueError, match=r"layers.0.graph.weight has the shape \[8, 4, 1, 1\] in the checkpoint, not"):
        pretrained.StateFile(path).weights(other)
