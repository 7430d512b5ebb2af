from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import Tensor, nn

from genutil.errors import UserError
from genutil.evaluation.scores import evaluate
from genutil.system.one_process import OneProcess
from tests.genutil.parts import Batch, MemoryLoader, SmallNet, make_data


class Table(nn.Module):
    """Gives the logits that the images are."""

    def forward(self, x: Tensor) -> Tensor:
        return x


def scores_of(logits: Tensor, labels: Tensor, batch_size: int):
    loader = MemoryLoader(logits, labels, batch_size, shuffle=False)
    return evaluate(Fabric(accelerator="cpu", devices=1), Table(), loader.epoch(0))


@pytest.mark.parametrize("batch_size", [7, 16, 100])
def test_figures_over_an_uneven_last_batch_are_those_of_the_whole(batch_size: int) -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(100, 12), torch.randint(12, (100,))
    rank = (logits > logits.gather(1, labels[:, None])).sum(1)
    scores = scores_of(logits, labels, batch_size)
    assert scores.top1 == pytest.approx((rank < 1).double().mean().item() * 100)
    assert scores.top5 == pytest.approx((rank < 5).double().mean().item() * 100)
    assert scores.loss == pytest.approx(F.cross_entropy(logits.double(), labels).item(), rel=1e-12)
    assert scores.images == 100


def test_top5_of_three_classes_is_of_three() -> None:
    scores = scores_of(torch.eye(3), torch.tensor([0, 2, 1]), 2)
    assert scores.top1 == pytest.approx(100 / 3)
    assert scores.top5 == 100


def test_an_empty_slice_counts_nothing() -> None:
    batches = [Batch(torch.randn(0, 3), torch.zeros(0, dtype=torch.int64), 1), Batch(torch.eye(3), torch.arange(3), 3)]
    scores = evaluate(Fabric(accelerator="cpu", devices=1), Table(), batches)
    assert (scores.top1, scores.images) == (100, 3)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_logits_that_are_not_finite_predict_nothing_and_are_told(
    value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    logits = torch.eye(6)
    logits[[0, 3], 0] = float(value)
    scores = scores_of(logits, torch.tensor([0, 1, 2, 0, 4, 5]), 4)
    assert (scores.top1, scores.top5) == (pytest.approx(100 * 4 / 6), pytest.approx(100 * 4 / 6))
    assert (scores.images, scores.non_finite) == (6, 2)
    assert capsys.readouterr().out.startswith(
        "The logits of 2 of 6 images are not finite, so that these count as wrong"
    )


def test_finite_logits_are_not_told_of(capsys: pytest.CaptureFixture[str]) -> None:
    assert scores_of(torch.eye(6), torch.arange(6), 4).non_finite == 0
    assert capsys.readouterr().out == ""


def test_no_image_at_all_is_told() -> None:
    with pytest.raises(UserError, match="no image"):
        evaluate(Fabric(accelerator="cpu", devices=1), Table(), [])


def test_without_fabric_the_scores_are_the_same() -> None:
    network, data = SmallNet(), make_data()
    scores = [
        evaluate(runtime, network, data.test.epoch(0))
        for runtime in (Fabric(accelerator="cpu", devices=1), OneProcess())
    ]
    assert (scores[0].top1, scores[0].top5, scores[0].loss) == (scores[1].top1, scores[1].top5, scores[1].loss)


def test_running_statistics_are_used_and_left_alone() -> None:
    network, data = SmallNet(), make_data()
    network.train()
    before = {name: value.clone() for name, value in network.state_dict().items() if isinstance(value, Tensor)}
    first = evaluate(Fabric(accelerator="cpu", devices=1), network, data.test.epoch(0))
    data.test.batch_size = 3
    second = evaluate(Fabric(accelerator="cpu", devices=1), network, data.test.epoch(0))
    assert second.loss == pytest.approx(first.loss, rel=1e-6)
    assert network.training
    for name, value in before.items():
        assert torch.equal(value, network.state_dict()[name])
