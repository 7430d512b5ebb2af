"""Predictions of batches, and the choice of what runs the network."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from data.files import FileBatch
from genutil.errors import UserError
from genutil.evaluation.prediction import TORCH, Guess, Predictor, choose_engine
from models.networks.vgg import VGG

FILES = [Path("a.png"), Path("b.png")]


def batch(*rows: list[float]) -> FileBatch:
    """Images that a network without weights takes for its logits."""
    return FileBatch(torch.tensor(rows), FILES[: len(rows)], {})


def test_the_most_probable_classes_come_first():
    logits = torch.tensor([[0.1, 0.6, 0.3], [0.5, 0.2, 0.3]]).log()
    found = list(Predictor(nn.Flatten(), ["x", "y", "z"], top=2).predict([batch(*logits.tolist())]))
    assert [prediction.file for prediction in found] == FILES
    assert [[guess.name for guess in prediction.guesses] for prediction in found] == [["y", "z"], ["x", "z"]]
    assert found[0].guesses[0] == Guess(1, "y", pytest.approx(0.6))
    assert found[1].to_dict()["guesses"][1] == {"class": "z", "number": 2, "probability": pytest.approx(0.3)}


def test_fewer_classes_than_guesses_are_all_given():
    (found,) = Predictor(nn.Flatten()).predict([batch([0.0, 1.0])])
    assert [guess.name for guess in found.guesses] == ["1", "0"]


def test_unreadable_files_are_collected_and_batches_without_images_passed_over():
    predictor = Predictor(nn.Flatten())
    empty = FileBatch(torch.empty(0, 2), [], {FILES[0]: "broken"})
    assert len(list(predictor.predict([empty, batch([0.0, 1.0])]))) == 1
    assert predictor.skipped == {FILES[0]: "broken"}


def test_names_that_do_not_fit_the_classes_are_an_error():
    with pytest.raises(UserError, match="3 outputs, and 2 class names"):
        list(Predictor(nn.Flatten(), ["x", "y"]).predict([batch([0.0, 1.0, 2.0])]))


class Beyond(nn.Module):
    """An engine whose numbers end at 9."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if (images > 9).any():
            raise OverflowError("the planes hold too large numbers")
        return images


@pytest.mark.parametrize(
    ("rows", "files"),
    [(([0.0, 1.0], [2.0, 10.0]), r"b\.png"), (([10.0, 1.0], [2.0, 10.0]), r"a\.png, b\.png")],
    ids=["one", "both"],
)
def test_an_error_names_the_images_that_an_engine_cannot_run(rows: tuple[list[float], ...], files: str):
    with pytest.raises(UserError, match=rf"cannot run {files}: the planes hold too large numbers"):
        list(Predictor(Beyond()).predict([batch(*rows)]))


def test_a_network_without_wired_parts_runs_as_it_is():
    network = VGG(depth=11, classes=10).eval()
    running = choose_engine(network, None, 32)
    assert (running.module, running.engine) == (network, TORCH)
    assert running.reason == "VGG has no wired part to compile"
    assert choose_engine(network, TORCH, 32).reason is None
    with pytest.raises(UserError, match="engine csr: VGG has no wired part to compile; torch runs any network"):
        choose_engine(network, "csr", 32)
