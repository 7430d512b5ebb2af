"""The GPU command on a CPU, with small networks: it measures, stops, goes on, and keeps what it has."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import gpu
from benchmarks.gpu import Piece, measured, pieces
from genutil.config import Experiment
from tests.docs.pages import ROOT

pytestmark = pytest.mark.usefixtures("one_thread")


def call(monkeypatch: pytest.MonkeyPatch, path: Path, *words: str) -> None:
    small = ["--device", "cpu", "--small", "--seconds", "0"]
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--json", str(path), *small, *words])
    assert gpu.main() == 0


def test_pieces_have_names_of_their_own() -> None:
    for device, gpus in (("cpu", 0), ("cuda", 1), ("cuda", 8)):
        names = [piece.name for piece in pieces(device, gpus)]
        assert len(names) == len(set(names))
    assert {"many/resnet50/dp, 8", "many/resnet50/ddp, 2", "evaluate/static/bf16, 1, CUDA graph"} <= set(names)
    assert not [piece for piece in pieces("cuda", 1) if piece.kind == "many"]


def test_a_training_step_and_an_evaluation_are_measured(monkeypatch, tmp_path, capsys) -> None:
    ways = {way: gpu.WAYS[way] for way in ("float32", "accumulate 2", "bf16, defaults")}
    monkeypatch.setattr(gpu, "WAYS", ways)
    monkeypatch.setattr(gpu, "BATCHES", (2,))
    path = tmp_path / "gpu.json"
    call(monkeypatch, path, "--only", "train", "evaluate", "--networks", "static")
    assert "5 of 5 pieces are done." in capsys.readouterr().out
    found = json.loads(path.read_text())["pieces"]
    assert list(found) == [
        *(f"train/static/{way}" for way in ways),
        "evaluate/static/float32, 2",
        "evaluate/static/bf16, 2",
    ]
    for figures in found.values():
        assert figures["low"] <= figures["milliseconds"] <= figures["high"]
        assert figures["images_per_second"] == pytest.approx(1e3 * figures["images"] / figures["milliseconds"])
    assert found["evaluate/static/float32, 2"]["difference"] == 0


@pytest.mark.parametrize("channels_last", [True, False])
def test_a_step_has_planes_laid_out_as_asked(monkeypatch: pytest.MonkeyPatch, channels_last: bool) -> None:
    experiment = Experiment(channels_last=channels_last, gpus=[], model="resnet", depth=8, wiring="complete")
    found = []

    def first(fabric, network, _):
        found.extend(weight.stride() for weight in network.parameters() if weight.dim() == 4)
        return network

    monkeypatch.setattr(gpu, "accelerated", first)
    gpu.step_of(gpu.make_fabric(experiment), experiment, gpu.batch_of(experiment, torch.device("cpu")))
    assert found[1] == ((144, 1, 48, 16) if channels_last else (144, 9, 3, 1))


def test_it_goes_on_where_it_was(monkeypatch, tmp_path, capsys) -> None:
    done: list[str] = []

    def note(piece: Piece, *_) -> dict:
        done.append(piece.name)
        return {"error": "out of memory"} if piece.way == "tf32" else {"milliseconds": 1.0, "images_per_second": 8.0}

    monkeypatch.setattr(gpu, "measured", note)
    path = tmp_path / "gpu.json"
    words = ["--only", "train", "--networks", "mobilenet"]
    call(monkeypatch, path, *words, "--minutes", "0")
    assert not done
    assert "0 of 11 pieces are done; give the command again." in capsys.readouterr().out
    moments = iter([0.0, 0.0, 100.0])
    monkeypatch.setattr(gpu.time, "monotonic", lambda: next(moments))
    call(monkeypatch, path, *words, "--minutes", "1")
    monkeypatch.undo()
    monkeypatch.setattr(gpu, "measured", note)
    assert done == ["train/mobilenet/float32"]
    call(monkeypatch, path, *words)
    assert len(done) == len(set(done)) == 11
    call(monkeypatch, path, *words, "--retry")
    assert done[11:] == ["train/mobilenet/tf32"]


def test_figures_of_another_measurement_are_not_mixed_in(monkeypatch, tmp_path) -> None:
    path = tmp_path / "gpu.json"
    path.write_text(json.dumps({"device": "NVIDIA H100", "gpus": 1, "small": False, "pieces": {}}))
    with pytest.raises(SystemExit, match="holds another measurement"):
        call(monkeypatch, path)


@pytest.mark.skipif(torch.cuda.is_available(), reason="is about machines without a GPU")
def test_a_piece_that_fails_says_why() -> None:
    piece = next(piece for piece in pieces("cuda", 1) if piece.kind == "train")
    assert "torch finds none on this machine" in measured(piece, "cuda", small=True, seconds=0)["error"]


def test_the_kept_figures_are_of_every_piece() -> None:
    kept = json.loads((ROOT / "benchmarks" / "results" / "gpu_small.json").read_text())
    assert list(kept["pieces"]) == [piece.name for piece in pieces("cpu", 0)]
    assert not [name for name, figures in kept["pieces"].items() if "error" in figures]


@pytest.mark.slow
def test_two_processes_are_measured(tmp_path: Path) -> None:
    piece = next(piece for piece in pieces("cpu", 0) if piece.name == "many/static/ddp, 2")
    figures = measured(piece, "cpu", small=True, seconds=0)
    assert figures["images"] == 16
    assert figures["calls"] >= 3
