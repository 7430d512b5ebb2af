"""Exact cases: outputs, edges and profiles of the code of 2019, for weights that both sides make by name."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch

import pretrained
from genutil.build import build_network
from genutil.config import Experiment
from genutil.model_profiling import profile
from genutil.settings.dialect_2019 import translate
from models.networks.neural_graph import ContinuousTimeNeuralGraph
from models.wirings.rules import graphs


def pytest_generate_tests(metafunc):
    folder = metafunc.config.getoption("--reference")
    cases = sorted(Path(folder, "cases").glob("*.json")) if folder else []
    metafunc.parametrize("case", cases or [None], ids=[path.stem for path in cases] or ["none"])


@pytest.fixture
def fill(reference):
    spec = importlib.util.spec_from_file_location("fill", reference / "fill.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_agrees_with_2019(case, fill, tmp_path):
    if case is None:
        pytest.fail("--reference names a folder without cases")
    expected = json.loads(case.read_text())
    settings = expected["settings"]
    network = build_network(Experiment.from_settings(translate(settings)))
    state = {
        f"module.{name}": torch.from_numpy(
            fill.tensor(
                name,
                tuple(shape),
                expected["salt"],
                expected["mask_density"].get(name, 1.0),
                expected["idle"].get(name, ()),
            ).reshape(shape)
        )
        for name, shape in expected["shapes"].items()
    }
    torch.save({"model": state, "last_epoch": 0}, tmp_path / "case.pt", _use_new_zipfile_serialization=False)
    network.load_state_dict(pretrained.StateFile(tmp_path / "case.pt").weights(network))
    network.eval()
    images = torch.from_numpy(fill.network_input(expected["salt"], expected["batch"], settings["image_size"]))
    logits = torch.tensor(expected["logits"])
    with torch.no_grad():
        gap = (network(images) - logits).abs().max() / logits.abs().max()
    assert gap < (2e-3 if isinstance(network, ContinuousTimeNeuralGraph) else 1e-4)
    matrices = [graph.matrix() for _, graph in graphs(network)]
    if "edges_nonzero" in expected:
        assert [int(matrix.count_nonzero()) for matrix in matrices] == expected["edges_nonzero"]
        sums = [float(matrix.abs().sum()) for matrix in matrices]
        assert sums == pytest.approx(expected["weight_abs_sum"], rel=1e-5)
    counted = profile(network, settings["image_size"])
    if "profile" in expected:
        assert counted.parameters == pytest.approx(expected["profile"]["params"], rel=1e-6)
        assert counted.multiply_adds == pytest.approx(expected["profile"]["macs"], rel=1e-6)
    if "live_nodes" in expected:
        stages = [layer for layer in counted.wired if layer.name.startswith("layers.")]
        assert [[layer.with_output, layer.with_input] for layer in stages] == expected["live_nodes"]
    if "edges_nonzero" in expected:
        assert [layer.acting for layer in counted.wired] == expected["edges_nonzero"]
