"""The benchmark of exports: every form is written, and those that run compute the network."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import exports
from genutil.saved.exports.formats import FORMATS
from tests.genutil.saved.exports.checkpoints_made import exported


def test_every_form_is_written_and_those_that_run_give_logits(tmp_path: Path):
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    pytest.importorskip("onnxruntime")
    what = exported("static")
    forms, rows = exports.write_all(what, tmp_path)
    assert [row["form"] for row in rows] == ["weights, .pt", *FORMATS]
    assert all(row["bytes"] > 1000 for row in rows)
    assert set(forms) == {"weights, .pt", ".npz", ".onnx", ".pt2", ".c"}
    assert rows[-1]["flash"] > 10_000
    threads = torch.get_num_threads()
    try:
        for name in ("weights, .pt", ".npz", ".onnx"):
            torch.manual_seed(3)
            result = np.asarray(forms[name]()())
            torch.manual_seed(3)
            with torch.no_grad():
                expected = what.network(torch.randn(1, 3, 32, 32)).numpy()
            np.testing.assert_allclose(result, expected, rtol=1e-3, atol=1e-3)
    finally:
        torch.set_num_threads(threads)


def test_the_networks_are_those_of_their_experiments():
    what = exports.network_of("static", {})
    assert what.image_size == 32
    assert what.network.dim == what.experiment.dim
