from __future__ import annotations

import pickle
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import pretrained
from models.networks.resnet import resnet
from models.networks.vgg import VGG
from models.wirings.wire import wire
from pretrained.keras_cifar_resnets import load
from pretrained.tensorflow_checkpoint import CheckpointError

ERRORS = {20: 8.00, 32: 7.41, 44: 6.83, 56: 6.23}
"""Percent of CIFAR-10's test images, measured independently."""


def keras_tensors(network: nn.Module, flat: bool = False) -> dict[str, np.ndarray]:
    """The tensors of a ResNet as Keras would name and lay them out."""
    tensors, number = {}, 0
    for module in network if flat else network.modules():
        if isinstance(module, nn.Conv2d):
            parts = {"kernel": module.weight.permute(2, 3, 1, 0)} | (
                {} if module.bias is None else {"bias": module.bias}
            )
        elif isinstance(module, nn.Linear):
            parts = {"kernel": module.weight.t(), "bias": module.bias}
        elif isinstance(module, nn.BatchNorm2d):
            parts = {"gamma": module.weight, "beta": module.bias}
            parts |= {"moving_mean": module.running_mean, "moving_variance": module.running_var}
        else:
            continue
        for part, tensor in parts.items():
            key = f"layer_with_weights-{number}/{part}/.ATTRIBUTES/VARIABLE_VALUE"
            tensors[key] = np.ascontiguousarray(tensor.detach().numpy())
        number += 1
    return tensors


def other(name: str) -> nn.Module:
    """A network of a form whose weights were not at hand."""
    depth = int(name.lstrip("vgresnt"))
    if name.startswith("vgg"):
        return VGG(depth=depth, bn_epsilon=1e-3)
    return resnet(depth=depth, block="v2", shortcut="B", padding="same_tensorflow", bn_epsilon=1e-3)


def keras_order(name: str, network: nn.Module, shortcut_first: bool) -> nn.Sequential:
    """The layers as Keras numbers them; of a pre-activated block norm before conv, the shortcut beside the last."""
    if name.startswith("vgg"):
        return nn.Sequential(*network.modules())
    layers: list[nn.Module] = [network.conv1]
    for group in (network.layer1, network.layer2, network.layer3):
        for block in group:
            *before, last = [
                m for i in range(1, block.length + 1) for m in (getattr(block, f"bn{i}"), getattr(block, f"conv{i}"))
            ]
            shortcut = [m for m in block.shortcut.modules() if isinstance(m, nn.Conv2d)]
            layers += [*before, *shortcut, last] if shortcut_first else [*before, last, *shortcut]
    return nn.Sequential(*layers, network.bn, network.linear)


@pytest.mark.parametrize(
    ("name", "shortcut_first"),
    [
        ("vgg11", False),
        pytest.param("vgg13", False, marks=pytest.mark.slow),
        pytest.param("vgg16", False, marks=pytest.mark.slow),
        pytest.param("vgg19", False, marks=pytest.mark.slow),
        ("resnet110", False),
        ("resnet164", False),
        ("resnet164", True),
    ],
)
def test_loads_the_other_networks_and_says_that_accuracy_was_not_verified(
    name: str, shortcut_first: bool, tmp_path: Path, writer
):
    torch.manual_seed(0)
    network = other(name)
    for tensor in network.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand_like(tensor) * 0.1)
    writer.write_checkpoint(tmp_path / "net", keras_tensors(keras_order(name, network, shortcut_first), flat=True))
    loaded = load(tmp_path / "net")
    assert not loaded.verified
    expected = network.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in loaded.network.state_dict().items())
    assert loaded.network.state_dict().keys() == expected.keys()
    keras = pretrained.open_named(f"keras:{tmp_path}/net")
    assert keras is not None
    assert "every shape fits; the accuracy of such files was not verified." in str(keras.understood(network))
    assert keras.settings()["model"] == name.rstrip("0123456789")


@pytest.mark.parametrize("name", ["vgg11", "vgg13", "vgg16", "vgg19", "resnet110", "resnet164", "resnet1001"])
def test_every_shape_of_the_published_indexes_fits(name: str, keras_weights: Path):
    indexes = keras_weights.parent / "keras_indexes"
    if not indexes.is_dir():
        pytest.skip(f"there is no {indexes}")
    with pytest.raises(FileNotFoundError, match=r"is incomplete: .*data-0000"):
        load(indexes / f"cifar_{name}.tf")


@pytest.fixture
def small(tmp_path: Path, writer) -> tuple[nn.Module, Path]:
    """A ResNet-8 and its checkpoint."""
    torch.manual_seed(0)
    network = resnet(depth=8, classes=7, padding="same_tensorflow", bn_epsilon=1e-3)
    for tensor in network.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand_like(tensor))
    writer.write_checkpoint(tmp_path / "net", keras_tensors(network))
    return network, tmp_path / "net"


def test_loads_a_written_network(small: tuple[nn.Module, Path]):
    network, prefix = small
    loaded = load(prefix)
    assert loaded.arguments["depth"] == 8
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(loaded.network.eval()(images), network.eval()(images))


def test_another_network_is_said(tmp_path: Path, small: tuple[nn.Module, Path], writer):
    network, _ = small
    whole = keras_tensors(network)
    first, last = (f"layer_with_weights-{n}/{p}/.ATTRIBUTES/VARIABLE_VALUE" for n, p in ((0, "kernel"), (14, "bias")))
    gamma = first.replace("-0/kernel", "-1/gamma")
    cases = {
        "layers are missing": {k: v for k, v in whole.items() if "-3/" not in k},
        "15 layers with weights": {k: v for k, v in whole.items() if k != last},
        "14 layers with weights": {k: v for k, v in whole.items() if "-14/" not in k},
        r"should have the shape \[3, 3, 3, 16\]": whole | {first: np.zeros((5, 5, 3, 16), "f4")},
        "where bn1 should be it has beta, moving": {k: v for k, v in whole.items() if k != gamma},
        "are missing": {"x": np.zeros(3, "f4")},
    }
    for reason, tensors in cases.items():
        writer.write_checkpoint(tmp_path / "other", tensors)
        with pytest.raises(CheckpointError, match=reason):
            load(tmp_path / "other")


def test_brings_its_settings_and_fits_wired_layers(small: tuple[nn.Module, Path]):
    network, prefix = small
    assert pretrained.open_named(f"keras:{prefix}").settings() == {
        "model": "resnet",
        "depth": 8,
        "block": "v1",
        "shortcut": "A",
        "width_mult": 1.0,
        "padding": "same_tensorflow",
        "bn_epsilon": 1e-3,
        "bn_momentum": 0.01,
        "mean": [0.4914, 0.4822, 0.4465],
        "std": [0.2023, 0.1994, 0.2010],
    }
    own = wire(resnet(depth=8, classes=7, padding="same_tensorflow", bn_epsilon=1e-3), "dnw", 0.0)
    own.load_state_dict(pretrained.open_named(f"keras:{prefix}").weights(own))
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(own.eval()(images), network.eval()(images))


def outcome(prefix: Path, expected: dict[str, torch.Tensor]) -> str:
    try:
        state = load(prefix).network.state_dict()
    except (CheckpointError, FileNotFoundError) as error:
        return "sentence" if "\n" not in str(error) and str(error).endswith(".") else f"no sentence: {error}"
    return "right" if all(torch.equal(state[k], v) for k, v in expected.items()) else "wrong"


def damage_and_load(prefix: Path, damages: int) -> dict[str, int]:
    """Cuts and flips in all files of a checkpoint, the outcomes counted."""
    expected = {k: v.clone() for k, v in load(prefix).network.state_dict().items()}
    seen: dict[str, int] = {}
    draw = random.Random(0)
    files = sorted(prefix.parent.glob(f"{prefix.name}.*"))
    for _ in range(damages):
        path = draw.choice(files)
        whole = path.read_bytes()
        damaged = bytearray(whole)
        if draw.random() < 0.5:
            del damaged[draw.randrange(len(whole)) :]
        else:
            damaged[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        found = outcome(prefix, expected)
        seen[found] = seen.get(found, 0) + 1
        path.write_bytes(whole)
    return seen


def test_damage_ends_in_a_sentence_or_the_right_weights(small: tuple[nn.Module, Path]):
    seen = damage_and_load(small[1], 800)
    assert seen.keys() == {"sentence", "right"}
    assert seen["sentence"] > 400


def test_damaged_published_weights(keras_weights: Path, tmp_path: Path):
    for path in keras_weights.glob("cifar_resnet20.tf.*"):
        shutil.copyfile(path, tmp_path / path.name)
    seen = damage_and_load(tmp_path / "cifar_resnet20.tf", 200)
    assert seen.keys() <= {"sentence", "right"}


@pytest.mark.slow
@pytest.mark.parametrize("depth", ERRORS)
def test_error_on_real_images_is_that_measured(depth: int, keras_weights: Path, real_data: Path):
    batch = pickle.loads((real_data / "cifar10/cifar-10-batches-py/test_batch").read_bytes(), encoding="latin1")
    labels = torch.tensor(batch["labels"])
    loaded = load(keras_weights / f"cifar_resnet{depth}.tf")
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (loaded.mean, loaded.std))
    images = torch.from_numpy(np.asarray(batch["data"]).reshape(-1, 3, 32, 32))
    network = loaded.network.eval()
    wrong = 0
    with torch.inference_mode():
        for part, expected in zip(images.split(250), labels.split(250), strict=True):
            wrong += int((network((part / 255 - mean) / std).argmax(1) != expected).sum())
    assert 100 * wrong / len(labels) == pytest.approx(ERRORS[depth], abs=0.05)
