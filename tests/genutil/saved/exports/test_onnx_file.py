from __future__ import annotations

import json
import sys

import pytest
import torch

from genutil.build import build_network
from genutil.errors import UserError
from genutil.saved.exports import onnx_file
from genutil.saved.exports.content import Exported
from models.sparse import channel_graph
from tests.genutil.saved.exports.checkpoints_made import KINDS, assert_same, exported, images

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"continuous_time"}))
def test_onnx_runtime_gives_the_networks_logits(kind: str):
    what = exported(kind)
    contents = onnx_file.write(what)
    model = onnx.load_from_string(contents)
    onnx.checker.check_model(model, full_check=True)
    assert [entry.version for entry in model.opset_import if entry.domain == ""] == [onnx_file.OPSET]
    session = onnxruntime.InferenceSession(contents, providers=["CPUExecutionProvider"])
    assert [(put.name, put.shape) for put in session.get_inputs()] == [("images", ["batch", 3, 32, 32])]
    assert [(put.name, put.shape) for put in session.get_outputs()] == [("logits", ["batch", 10])]
    for batch in (1, 7, 32):
        given = images(batch)
        assert_same(what.network, given, session.run(["logits"], {"images": given.numpy()})[0])


def test_norms_that_are_alike_as_before_training_are_no_obstacle():
    experiment = exported("static").experiment
    what = Exported(experiment, build_network(experiment).eval(), "fresh")
    onnx_file.write(what)
    assert what.notices[-1].startswith("ONNX Runtime differs from the network by")


def test_dead_nodes_are_gone():
    what = exported("static")
    graph = channel_graph(what.network)
    pruned = graph.pruned((32, 32))
    assert sum(level.nodes for level in pruned.levels) < sum(level.nodes for level in graph.levels)
    model = onnx.load_from_string(onnx_file.write(what))
    shapes = {tuple(tensor.dims) for tensor in model.graph.initializer}
    wanted = {level.incoming.dense().shape for level in pruned.levels[1:]}
    whole = {level.incoming.dense().shape for level in graph.levels[1:]}
    assert wanted <= shapes
    assert not (whole - wanted) & shapes


def test_the_file_says_what_it_is():
    what = exported("static")
    model = onnx.load_from_string(onnx_file.write(what))
    described = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
    assert described["settings"]["model"] == "static"
    assert described["mean"] == [0.491, 0.482, 0.447]
    assert described["image_size"] == 32


def test_a_network_whose_steps_depend_on_the_image_is_refused():
    with pytest.raises(UserError, match="depend on values that it computes"):
        onnx_file.write(exported("continuous_time"))


def test_a_difference_is_told(monkeypatch: pytest.MonkeyPatch):
    what = exported("resnet")
    monkeypatch.setattr(onnx_file, "deployable", lambda _: torch.nn.Sequential(what.network, torch.nn.Softmax(dim=1)))
    with pytest.raises(UserError, match="ONNX Runtime differs from the network by"):
        onnx_file.write(what)


def test_missing_packages_are_told(monkeypatch: pytest.MonkeyPatch):
    what = exported("resnet")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    onnx_file.write(what)
    assert "not compared" in what.notices[-1]
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(UserError, match="pip install onnx onnxruntime"):
        onnx_file.write(what)
