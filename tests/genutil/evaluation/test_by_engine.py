"""Evaluation by an engine: the network's scores and predictions, or an error."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric
from torch import nn

import models
from data import Batch
from genutil.config import Experiment
from genutil.errors import UserError
from genutil.evaluation import by_engine
from genutil.evaluation.by_engine import evaluate_fast
from genutil.evaluation.scores import evaluate
from genutil.run import run
from genutil.system.one_process import OneProcess

ENGINES = ("pruned", "csr", "dgl", "native", "auto")


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    stages = ((4, 8, 1, 1), (8, 16, 2, 3))
    made = models.build_network(
        "mobilenetv1_like", classes=5, image_size=16, wiring="dnw", prune_rate=0.5, stages=stages
    )
    made(torch.randn(64, 3, 16, 16))  # batch norms that have seen images
    return made.eval()


@pytest.fixture(scope="module")
def batches() -> list[Batch]:
    torch.manual_seed(1)
    return [Batch(torch.randn(n, 3, 16, 16), torch.randint(5, (n,)), n) for n in (16, 16, 3)]


@pytest.fixture
def fabric() -> Fabric:
    return Fabric(accelerator="cpu", devices=1)


@pytest.mark.parametrize("engine", ENGINES)
def test_scores_are_the_networks(engine, network, batches, fabric):
    if engine == "dgl":
        pytest.importorskip("dgl", reason="DGL is not installed")
    comparison = evaluate_fast(fabric, network, batches, engine, 16)
    expected = evaluate(fabric, network, batches)
    assert (comparison.scores.top1, comparison.scores.top5) == (expected.top1, expected.top5)
    assert comparison.scores.loss == pytest.approx(expected.loss, rel=1e-5)
    assert comparison.scores.images == 35
    assert (comparison.near_ties, comparison.same) == (0, 35)
    assert comparison.engine in ENGINES
    assert f"engine {comparison.engine}" in str(comparison)


def test_without_fabric_the_scores_are_the_same(network, batches, fabric):
    first, second = (evaluate_fast(runtime, network, batches, "pruned", 16) for runtime in (fabric, OneProcess()))
    assert (first.scores.top1, first.scores.loss) == (second.scores.top1, second.scores.loss)


def test_near_ties_are_counted_and_may_go_either_way(batches, fabric, monkeypatch):
    torch.manual_seed(0)
    tied = models.build_network("mobilenetv1_like", classes=5, image_size=16, stages=((4, 8, 1, 1),)).eval()
    with torch.no_grad():
        tied.linear.weight[1] = tied.linear.weight[0]
        tied.linear.bias[:2] = 3.0
        tied.linear.bias[2:] = -3.0
    monkeypatch.setattr(by_engine, "compile_graph", lambda *_, **__: Other(tied, [1, 0, 2, 3, 4]))
    assert evaluate_fast(fabric, tied, batches, "pruned", 16).near_ties == 35


class Other(nn.Module):
    """The network with its classes in another order: wrong, as an engine may be."""

    engine = "wrong"

    def __init__(self, network: nn.Module, order: list[int]) -> None:
        super().__init__()
        self.network, self.order = network, order

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.network(images)[:, self.order]


def test_an_engine_that_predicts_otherwise_is_an_error(network, batches, fabric, monkeypatch):
    monkeypatch.setattr(by_engine, "compile_graph", lambda *_, **__: Other(network, [1, 2, 3, 4, 0]))
    with pytest.raises(UserError, match="engine wrong predicts otherwise than the network for 35 of 35 images"):
        evaluate_fast(fabric, network, batches, "pruned", 16)


class Imprecise(nn.Module):
    """Predicts otherwise than the network for the first images of a batch, as an engine of less precision may."""

    engine = "native_half"

    def __init__(self, network: nn.Module, images: int) -> None:
        super().__init__()
        self.network, self.images = network, images

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits = self.network(images).clone()
        logits[: self.images] = logits[: self.images].roll(1, dims=1)
        return logits


def test_an_engine_of_less_precision_may_predict_one_image_in_a_hundred_otherwise(network, fabric, monkeypatch):
    torch.manual_seed(1)
    many = [Batch(torch.randn(100, 3, 16, 16), torch.randint(5, (100,)), 100) for _ in range(2)]
    monkeypatch.setattr(by_engine, "compile_graph", lambda *_, **__: Imprecise(network, 1))
    comparison = evaluate_fast(fabric, network, many, "native_half", 16)
    assert comparison.same == comparison.to_dict()["same_predictions"] == 198
    assert "same prediction for 198 of 200 images (99.00 %)" in str(comparison)
    monkeypatch.setattr(by_engine, "compile_graph", lambda *_, **__: Imprecise(network, 2))
    with pytest.raises(UserError, match="native_half predicts otherwise than the network for 4 of 200 images"):
        evaluate_fast(fabric, network, many, "native_half", 16)


@pytest.mark.filterwarnings("ignore:This processor does not compute in half precision")
def test_half_precision(network, batches, fabric):
    comparison = evaluate_fast(fabric, network, batches, "native_half", 16)
    expected = evaluate(fabric, network, batches)
    assert comparison.engine == "native_half"
    assert comparison.same >= 35 - comparison.near_ties
    assert comparison.scores.loss == pytest.approx(expected.loss, rel=1e-2)
    far = [Batch(1e5 * batch.images, batch.labels, batch.total) for batch in batches]
    with pytest.raises(UserError, match=r"engine native_half cannot run these images: the planes .* half"):
        evaluate_fast(fabric, network, far, "native_half", 16)
    assert evaluate_fast(fabric, network, far, "native", 16).same == 35


class Spoilt(nn.Module):
    """A network, or an engine, whose logits are not finite for the first images of a batch."""

    engine = "spoilt"

    def __init__(self, network: nn.Module, images: int) -> None:
        super().__init__()
        self.network, self.images = network, images

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits = self.network(images).clone()
        logits[: self.images] = torch.nan
        return logits


def test_logits_that_are_not_finite_are_told(network, batches, fabric, monkeypatch, capsys):
    monkeypatch.setattr(by_engine, "compile_graph", lambda *_, **__: Spoilt(network, 2))
    comparison = evaluate_fast(fabric, Spoilt(network, 2), batches, "pruned", 16)
    assert (comparison.scores.non_finite, comparison.near_ties) == (6, 0)
    assert "logits of 6 of 35 images are not finite" in capsys.readouterr().out
    with pytest.raises(UserError, match="predicts otherwise than the network for 6 of 35 images"):
        evaluate_fast(fabric, network, batches, "pruned", 16)


def test_weights_that_are_not_finite_are_named(network, batches, fabric):
    broken = copy.deepcopy(network)
    with torch.no_grad():
        broken.linear.bias[1] = torch.inf
    with pytest.raises(UserError, match=r"fast_eval: linear\.bias of the network holds values that are not finite"):
        evaluate_fast(fabric, broken, batches, "pruned", 16)


def test_a_network_without_wired_parts_is_told_so(batches, fabric):
    dense = models.build_network("mobilenetv1", classes=5, image_size=16, width_mult=0.1)
    with pytest.raises(UserError, match="MobileNetV1 has no wired part"):
        evaluate_fast(fabric, dense, batches, "pruned", 16)


def test_from_a_checkpoint_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    places = {"save_dir": str(tmp_path / "c"), "log_dir": str(tmp_path / "r"), "gpus": [], "threads": 1}
    settings = {"model": "static", "wiring": "dnw", "prune_rate": 0.9, "data": "digits", "in_channels": 1}
    sizes = {"dim": 60, "downsample_dim": 12, "feature_dim": 12, "layers": 4, "image_size": 16}
    trained = run(Experiment.from_settings({**settings, **sizes, **places, "num_epochs": 1}))
    saved = trained["settings"]
    again = {**places, "resume": trained["checkpoint"], "evaluate": True, "fast_eval": True, "engine": "pruned"}
    results = run(Experiment.from_saved(saved, again))
    assert results["top1"] == trained["top1"]
    assert results["fast_eval"]["engine"] == "pruned"
    assert results["fast_eval"]["images_per_second"] == results["images_per_second"] > 0
    assert "same prediction for all but" in capsys.readouterr().out


def test_engines_that_contradict_one_another():
    with pytest.raises(UserError, match="use_dgl is engine: dgl, and engine is csr"):
        Experiment.from_settings({"use_dgl": True, "engine": "csr"})
    with pytest.raises(UserError, match="engine must be"):
        Experiment.from_settings({"engine": "cuda"})
