"""The columns of the evaluation benchmark compute what the network does, or say why they cannot."""

from __future__ import annotations

import importlib.util

import pytest
import torch

from benchmarks.engine_columns import OPSETS, WiredFiles, peak_gmacs
from benchmarks.evaluate import print_timings
from benchmarks.turns import Turns
from models import build_network


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    made = build_network("static", classes=10, image_size=32, wiring="dnw", prune_rate=0.95).eval()
    for parameter in made.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter) * (parameter != 0)
    return made


@pytest.fixture(scope="module")
def files(network, tmp_path_factory):
    return WiredFiles("static", network, 32, tmp_path_factory.mktemp("files"))


@pytest.mark.parametrize("engine", ["dense", "pruned", "dgl", "csr", "native", "onnx", "openvino", "deepsparse"])
def test_columns_compute_the_network(engine, network, files):
    package = {"onnx": "onnxruntime"}.get(engine, engine)
    if engine in (*OPSETS, "dgl") and importlib.util.find_spec(package) is None:
        pytest.skip(f"needs {package}")
    column = files.column(engine, 3, torch.get_num_threads())
    torch.manual_seed(1)
    found = torch.as_tensor(column()())
    torch.manual_seed(1)
    with torch.inference_mode():
        expected = network(torch.randn(3, 3, 32, 32))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("engine", list(OPSETS))
def test_onnx_is_written_in_the_version_that_the_engine_reads(engine, files):
    onnx = pytest.importorskip("onnx")
    written = onnx.load(files.column(engine, 1, 1).path)
    assert [entry.version for entry in written.opset_import if not entry.domain] == [OPSETS[engine]]
    onnx.checker.check_model(written)


@pytest.mark.skipif(importlib.util.find_spec("deepsparse") is not None, reason="is about a package that is missing")
def test_a_missing_engine_is_left_out_with_its_reason(files):
    with Turns({"deepsparse": files.column("deepsparse", 1, 1), "native": files.column("native", 1, 1)}) as turns:
        assert turns.left_out == {"deepsparse": "the package deepsparse is not installed"}
        assert list(turns.take()) == ["native"]


def test_timings_are_those_of_the_native_engine(files, capsys):
    found = files.timings(2, 1)
    assert [level["level"] for level in found] == [level.name for level in files.pruned.levels]
    assert found[0]["kind"] is None
    assert sum(level["multiply_adds"] for level in found) > 1e6
    assert all(level["seconds"]["SUMS"] > 0 for level in found[1:])
    print_timings(found)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:-1]] == [level["level"] for level in found]
    assert lines[-1].split()[0] == "all"


def test_the_peak_is_that_of_a_processor():
    assert 0.1 < peak_gmacs(100_000) < 1000
