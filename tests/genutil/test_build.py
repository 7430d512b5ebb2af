"""The parts of a run fit one another, or it is said what does not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric
from torch import nn

from genutil.build import Parts, build, build_network, load_data, profile
from genutil.config import Experiment
from genutil.errors import UserError
from genutil.run import run
from genutil.saved.sources import Sources
from tests.genutil.runs import tiny

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = torch.device("cpu")


@pytest.fixture
def fabric() -> Fabric:
    return Fabric(accelerator="cpu", devices=1)


def parts_of(experiment: Experiment, fabric: Fabric, said: list[str] | None = None) -> Parts:
    return build(experiment, fabric, CPU, (said if said is not None else []).append)


def test_a_profile_needs_neither_data_nor_optimizer(tmp_path: Path, fabric: Fabric) -> None:
    parts = parts_of(tiny(tmp_path, profile=True, data_dir=str(tmp_path / "nothing")), fabric)
    assert (parts.data, parts.optimizer, parts.progress) == (None, None, None)
    assert not parts.network.training
    assert profile(parts).multiply_adds > 0


def test_a_training_has_everything_and_knows_its_normalisation(tmp_path: Path, fabric: Fabric) -> None:
    parts = parts_of(tiny(tmp_path), fabric)
    assert parts.network.training
    assert parts.progress.steps_per_epoch == len(parts.data.train) == 6
    assert (parts.experiment.mean, parts.experiment.std) == ([0.305], [0.376])
    trained = {id(parameter) for group in parts.optimizer.param_groups for parameter in group["params"]}
    assert trained == {id(parameter) for parameter in parts.network.parameters()}


def test_a_networks_weights_are_those_of_its_seed(tmp_path: Path) -> None:
    def weight(**settings: int) -> torch.Tensor:
        torch.rand(7)  # what was drawn before plays no part
        return build_network(tiny(tmp_path, **settings)).graph.weight

    assert torch.equal(weight(seed=3), weight(seed=3))
    assert not torch.equal(weight(seed=3), weight(seed=4))


def test_other_arguments_may_be_given_to_the_network(tmp_path: Path) -> None:
    network = build_network(tiny(tmp_path), classes=7)
    assert [layer.out_features for layer in network.modules() if isinstance(layer, nn.Linear)] == [7]


def test_few_batches_are_the_first_of_every_epoch(tmp_path: Path, fabric: Fabric) -> None:
    whole = load_data(tiny(tmp_path, augment=False), fabric, CPU)
    few = load_data(tiny(tmp_path, augment=False, only_batches=2), fabric, CPU)
    assert (len(few.train), len(few.test), few.validation) == (2, 2, None)
    for epoch in (0, 1):
        pairs = list(zip(few.train.epoch(epoch), whole.train.epoch(epoch), strict=False))
        assert len(pairs) == 2
        assert all(torch.equal(one.images, other.images) for one, other in pairs)
    assert len(list(few.train.epoch(0, start=1))) == 1


def test_a_classifier_of_another_size_starts_afresh_and_that_is_said(tmp_path: Path, fabric: Fabric) -> None:
    start = run(tiny(tmp_path, num_epochs=0))["checkpoint"]
    said: list[str] = []
    sources = Sources()
    experiment = tiny(tmp_path, init_from=start, output_size=12, profile=True)
    parts = build(experiment, fabric, CPU, said.append, sources)
    assert len(said) == 1
    assert said[0].startswith(f"{start} has another number of classes: fc.")
    before = sources.open(start).weights(parts.network)
    assert torch.equal(parts.network.graph.weight, before["graph.weight"])


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"evaluate": True}, r"^There is nothing to evaluate: --evaluate needs --resume CHECKPOINT\.$"),
        ({"output_size": 7}, r"^digits has 10 classes and the network 7 outputs: set output_size to 10\.$"),
        ({"data": "cifar100", "output_size": 7}, r"^cifar100 has 100 classes and the network 7 outputs: "),
        ({"model": "shufflenetv2", "wiring": "complete"}, r"^shufflenetv2 takes images of 3 channels, not 1\.$"),
        ({"data": "cifar1"}, r"^there is no data set cifar1: its name is one of digits, .* or set DATA_DIR\.$"),
        ({"image_size": 8}, r"^The tiny classifiers need images of at least 16 pixels, not 8\.$"),
    ],
)
def test_what_does_not_fit_is_a_sentence(tmp_path: Path, fabric: Fabric, settings: dict, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        parts_of(tiny(tmp_path, **settings), fabric)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"model": "resnet", "depth": 8, "width_mult": 1e-9}, "resnet would have layers without channels"),
        ({"model": "vgg", "depth": 11, "width_mult": 1000.0}, "vgg would have .* GB of weights, which is more memory"),
        ({"model": "discrete_time", "dim": 10**6}, "The network cannot be built: that takes more memory than there is"),
        ({"model": "vgg", "depth": 11, "image_size": 16}, "vgg cannot compute images of 16 x 16 pixels: .*too small"),
        ({"model": "continuous_time", "tolerance": 1e-300}, "continuous_time cannot compute .*underflow in dt"),
    ],
)
def test_what_no_network_can_be_is_told(settings: dict, sentence: str, tmp_path) -> None:
    with pytest.raises(UserError, match=sentence):
        run(tiny(tmp_path, **settings))
    assert not list(tmp_path.iterdir())


def test_a_batch_of_one_image_needs_planes_of_more_than_one_value(tmp_path) -> None:
    settings = {"model": "resnet", "depth": 8, "width_mult": 0.25, "batch_size": 1, "only_batches": 2, "num_epochs": 1}
    with pytest.raises(UserError, match="A batch of one image gives a batch norm of resnet a single value a channel"):
        run(tiny(tmp_path, **settings, image_size=4))
    assert run(tiny(tmp_path, **settings, image_size=16))["loss"] > 0
