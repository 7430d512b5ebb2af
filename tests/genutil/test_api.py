from __future__ import annotations

from pathlib import Path

import pytest
import torch

import data
from data.sources import Request
from genutil.api import Trained, load
from genutil.errors import UserError
from genutil.run import run
from models.sparse import compile_graph
from tests.genutil.runs import tiny


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    run(tiny(folder, num_epochs=1, threads=1))
    return folder / "checkpoints" / "tiny" / "last.pt"


def test_predictions_are_those_of_an_evaluation(checkpoint: Path):
    trained = load(checkpoint)
    images = data.find(Request("digits", None)).test
    size = trained.experiment.image_size
    pixels = torch.nn.functional.interpolate(images.pixels.float(), size=size, mode="nearest").to(torch.uint8)
    with torch.no_grad():
        logits = trained.network(trained.prepare(pixels))
    assert logits.shape == (len(images.labels), 10)
    fast = compile_graph(trained.network, engine="pruned")
    with torch.no_grad():
        torch.testing.assert_close(fast(trained.prepare(pixels)), logits, rtol=1e-4, atol=1e-4)


def test_images_are_normalised_as_in_training(checkpoint: Path):
    trained = load(checkpoint)
    pixels = torch.randint(0, 256, (3, 1, 16, 16), dtype=torch.uint8)
    torch.testing.assert_close(trained.prepare(pixels), (pixels / 255 - 0.305) / 0.376)
    own = load(checkpoint, standardise=True).prepare(pixels)
    torch.testing.assert_close(own.mean(dim=(1, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(own.std(dim=(1, 2, 3), correction=0), torch.ones(3), atol=1e-5, rtol=0)


@pytest.mark.parametrize("wrong", [torch.zeros(1, 1, 16, 16), torch.zeros(1, 3, 16, 16, dtype=torch.uint8)])
def test_other_images_are_refused(wrong: torch.Tensor, checkpoint: Path):
    with pytest.raises(UserError, match=r"Images are uint8 \[batch, 1, height, width\]"):
        load(checkpoint).prepare(wrong)


def test_classes_have_their_names(checkpoint: Path, tmp_path: Path):
    trained = load(checkpoint)
    assert trained.class_names == tuple("0123456789")
    trained.export(tmp_path / "tiny.safetensors")
    assert load(tmp_path / "tiny.safetensors").class_names == trained.class_names


def test_it_is_exported_by_the_ending(checkpoint: Path, tmp_path: Path):
    trained = load(checkpoint)
    trained.export(tmp_path / "tiny.safetensors")
    again = load(tmp_path / "tiny.safetensors")
    assert isinstance(again, Trained)
    images = torch.randn(2, 1, 16, 16)
    with torch.no_grad():
        assert torch.equal(again.network(images), trained.network(images))
    with pytest.raises(UserError, match="its name must end in"):
        trained.export(tmp_path / "tiny.h5")


def test_an_app_gives_the_settings_of_weights_that_name_none(checkpoint: Path, tmp_path: Path):
    state = tmp_path / "state.pt"
    torch.save(load(checkpoint).network.state_dict(), state)
    with pytest.raises(UserError, match="holds no settings of its own"):
        load(state)
    with pytest.raises(UserError, match="is not a setting"):
        load(checkpoint, imagesize=3)
    with pytest.raises(UserError, match="is of what was trained"):
        load(checkpoint, app="quickstart")
