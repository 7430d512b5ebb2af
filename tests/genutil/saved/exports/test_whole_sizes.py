"""Exports of networks in the sizes that people use: the quickstart on a microcontroller, x225 for photographs."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.exports import network_of
from genutil.saved.exports import c_source, onnx_file
from genutil.saved.exports.content import Exported
from tests.models.sparse.c_program.compilers import build, build_for_cortex_m, emulator, logits

pytestmark = pytest.mark.slow


@cache
def network(name: str) -> Exported:
    return network_of(name, {})


def assert_same(what: Exported, pixels: np.ndarray, found: np.ndarray) -> None:
    assert what.normalisation is not None
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in what.normalisation)
    with torch.no_grad():
        expected = what.network(((torch.from_numpy(pixels) / 255 - mean) / std)[None])[0].numpy()
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()


def test_the_quickstart_runs_on_a_cortex_m4(tmp_path: Path):
    what = network("quickstart")
    source = tmp_path / "digits.c"
    source.write_bytes(c_source.write(what))
    program = build_for_cortex_m(source, "cortex-m4")
    pixels = np.random.default_rng(1).integers(0, 256, (1, 32, 32)).astype(np.uint8)
    image = tmp_path / "image.raw"
    image.write_bytes(pixels.tobytes())
    words = emulator("mps2-an386", program, ["--logits", str(image)])
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=True)
    assert_same(what, pixels, np.array([float(line) for line in done.stdout.split()]))


def test_x225_is_a_c_program(tmp_path: Path):
    what = network("x225")
    source = tmp_path / "x225.c"
    source.write_bytes(c_source.write(what))
    pixels = np.random.default_rng(1).integers(0, 256, (3, 224, 224)).astype(np.uint8)
    assert_same(what, pixels, logits([build(source)], pixels, tmp_path, planar=False))


def test_x225_is_an_onnx_file():
    pytest.importorskip("onnxruntime")
    what = network("x225")
    assert len(onnx_file.write(what)) < 13e6  # the dense matrices of all nodes would be twice as large
    assert what.notices[-1].startswith("ONNX Runtime differs from the network by")
