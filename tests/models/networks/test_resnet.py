from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.networks.resnet import ResidualNetwork, resnet, resnext, wrn

# name: factory, arguments, parameters as published (in millions, rounded as there), parameters
SIZES = {
    "resnet20_v1": (resnet, {"depth": 20}, "0.27", 269_722),
    "resnet32_v1": (resnet, {"depth": 32}, "0.46", 464_154),
    "resnet44_v1": (resnet, {"depth": 44}, "0.66", 658_586),
    "resnet56_v1": (resnet, {"depth": 56}, "0.85", 853_018),
    "resnet110_v1": (resnet, {"depth": 110}, "1.7", 1_730_714),
    "resnet110_v1_a": (resnet, {"depth": 110, "shortcut": "A"}, "1.7", 1_727_962),
    "resnet20_v1_b": (resnet, {"depth": 20, "shortcut": "B"}, "0.27", 272_474),
    "resnet56_v1_b": (resnet, {"depth": 56, "shortcut": "B"}, "0.86", 855_770),
    "resnet20_v2": (resnet, {"depth": 20, "block": "v2"}, "0.27", 269_722),
    "resnet32_v2": (resnet, {"depth": 32, "block": "v2"}, "0.46", 464_154),
    "resnet44_v2": (resnet, {"depth": 44, "block": "v2"}, "0.66", 658_586),
    "resnet56_v2": (resnet, {"depth": 56, "block": "v2"}, "0.85", 853_018),
    "resnet110_v2": (resnet, {"depth": 110, "block": "v2"}, "1.7", 1_730_522),
    "resnet164_v2": (resnet, {"depth": 164, "block": "v2"}, "1.7", 1_703_258),
    "resnet1001_v2": (resnet, {"depth": 1001, "block": "v2"}, "10", 10_327_706),
    "wrn_16_4": (wrn, {"depth": 16, "width_mult": 4}, "2.7", 2_748_890),
    "wrn_40_4": (wrn, {"depth": 40, "width_mult": 4}, "8.9", 8_949_210),
    "wrn_16_8": (wrn, {"depth": 16, "width_mult": 8}, "11", 10_961_370),
    "wrn_28_10": (wrn, {"depth": 28, "width_mult": 10}, "36.5", 36_479_194),
    "resnext29_8x64d": (resnext, {"cardinality": 8}, "34.4", 34_426_698),
    "resnext29_16x64d": (resnext, {"cardinality": 16}, "68.2", 68_155_210),
}

SMALL = {
    "v1 A": lambda **k: resnet(depth=14, width_mult=0.25, **k),
    "v1 A both sides": lambda **k: resnet(depth=14, width_mult=0.25, shortcut="A_both", **k),
    "v1 B": lambda **k: resnet(depth=14, width_mult=0.25, shortcut="B", **k),
    "v1 bottleneck": lambda **k: resnet(depth=20, width_mult=0.25, bottleneck=True, shortcut="B", **k),
    "v2 A": lambda **k: resnet(depth=14, width_mult=0.25, block="v2", **k),
    "v2 B": lambda **k: resnet(depth=14, width_mult=0.25, block="v2", shortcut="B", **k),
    "v2 bottleneck": lambda **k: resnet(depth=20, width_mult=0.25, block="v2", bottleneck=True, shortcut="B", **k),
    "wrn": lambda **k: wrn(depth=16, width_mult=0.5, **k),
}


@pytest.mark.parametrize("name", SIZES)
def test_parameters_are_those_published(name: str):
    factory, arguments, millions, exact = SIZES[name]
    with torch.device("meta"):
        network = factory(**arguments)
        out = network(torch.empty(2, 3, 32, 32))
    count = sum(p.numel() for p in network.parameters())
    assert count == exact
    digits = len(millions.partition(".")[2])
    assert f"{count / 1e6:.{digits}f}" == millions
    assert out.shape == (2, 10)


@pytest.mark.parametrize("padding", ["symmetric", "same_tensorflow"])
@pytest.mark.parametrize("name", SMALL)
def test_every_parameter_gets_a_gradient(name: str, padding: str):
    torch.manual_seed(0)
    network = SMALL[name](padding=padding, in_channels=1, classes=7)
    out = network(torch.randn(4, 1, 16, 16))
    assert out.shape == (4, 7)
    out.square().sum().backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.abs().sum() > 0, key


def _norm(state: dict[str, Tensor], key: str, images: Tensor) -> Tensor:
    stats = [state[f"{key}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
    return F.batch_norm(images, *stats, eps=1e-5)


def _written_out(network: ResidualNetwork, images: Tensor, *, v2: bool, activated: set[tuple[int, int]]) -> Tensor:
    """A residual network of basic blocks from its tensors alone."""
    state = network.state_dict()
    x = F.conv2d(images, state["conv1.weight"], padding=1)
    x = x if v2 else _norm(state, "bn1", x).relu()
    for layer in (1, 2, 3):
        for block in range(2):
            key, stride = f"layer{layer}.{block}", 2 if layer > 1 and block == 0 else 1
            first, second = state[f"{key}.conv1.weight"], state[f"{key}.conv2.weight"]
            if v2:
                y = _norm(state, f"{key}.bn1", x).relu()
                source = y if (layer, block) in activated else x
                y = _norm(state, f"{key}.bn2", F.conv2d(y, first, stride=stride, padding=1)).relu()
                y = F.conv2d(y, second, padding=1)
            else:
                source = x
                y = _norm(state, f"{key}.bn1", F.conv2d(x, first, stride=stride, padding=1)).relu()
                y = _norm(state, f"{key}.bn2", F.conv2d(y, second, padding=1))
            if f"{key}.shortcut.0.weight" in state:
                source = F.conv2d(source, state[f"{key}.shortcut.0.weight"], stride=stride)
                source = source if v2 else _norm(state, f"{key}.shortcut.1", source)
            elif stride == 2:
                source = source[:, :, ::2, ::2]
                source = torch.cat([source, torch.zeros_like(source)], 1)
            x = y + source if v2 else (y + source).relu()
    x = _norm(state, "bn", x).relu() if v2 else x
    return F.linear(x.mean((2, 3)), state["linear.weight"], state["linear.bias"])


@pytest.mark.parametrize(
    ("name", "v2", "activated"),
    [
        ("v1 A", False, set()),
        ("v1 B", False, set()),
        ("v2 A", True, {(1, 0)}),
        ("v2 B", True, {(1, 0)}),
        ("wrn", True, {(1, 0), (2, 0), (3, 0)}),
    ],
)
def test_agrees_with_the_network_written_out(name: str, v2: bool, activated: set[tuple[int, int]]):
    torch.manual_seed(1)
    network = SMALL[name]()
    for tensor in network.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand_like(tensor) * 0.5 + 0.1 if tensor.ndim == 1 else torch.randn_like(tensor) * 0.2)
    images = torch.randn(3, 3, 16, 16)
    ours = network.eval()(images)
    theirs = _written_out(network, images, v2=v2, activated=activated)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", SMALL)
def test_checkpointing_changes_only_the_memory(name: str):
    torch.manual_seed(2)
    plain = SMALL[name](dropout=0.3)
    saving = SMALL[name](dropout=0.3, activation_checkpointing=True)
    saving.load_state_dict(plain.state_dict())
    images = torch.randn(4, 3, 16, 16)
    kept = []
    for network in (plain, saving):
        saved: list[int] = []
        torch.manual_seed(3)
        with torch.autograd.graph.saved_tensors_hooks(lambda t, s=saved: (s.append(t.numel()), t)[1], lambda t: t):
            loss = network(images).square().sum()
        loss.backward()
        kept.append(sum(saved))
    for (key, one), two in zip(plain.named_parameters(), saving.parameters(), strict=True):
        torch.testing.assert_close(one.grad, two.grad, msg=key)
    for (key, one), two in zip(plain.named_buffers(), saving.buffers(), strict=True):
        torch.testing.assert_close(one, two, msg=key)
    assert kept[1] < kept[0] / 2


def test_dropout_is_off_in_evaluation():
    torch.manual_seed(4)
    network = wrn(depth=10, width_mult=0.5, dropout=0.9)
    images = torch.randn(2, 3, 16, 16)
    assert not torch.equal(copy.deepcopy(network)(images), copy.deepcopy(network)(images))
    network.eval()
    assert torch.equal(network(images), network(images))


def test_resnext_groups_only_its_3x3_convs():
    with torch.device("meta"):
        network = resnext(cardinality=8)
    groups = {m.kernel_size: m.groups for m in network.layer2.modules() if isinstance(m, nn.Conv2d)}
    assert groups == {(1, 1): 1, (3, 3): 8}
    assert network.layer2[0].conv2.out_channels == 1024
    assert network.layer2[0].conv2.stride == (2, 2)


@pytest.mark.parametrize(
    ("factory", "arguments", "word"),
    [
        (resnet, {"depth": 21}, "6n\\+2"),
        (resnet, {"depth": 163, "block": "v2"}, "9n\\+2"),
        (wrn, {"depth": 20}, "6n\\+4"),
        (resnext, {"depth": 2}, "9n\\+2"),
        (resnet, {"block": "v3"}, "v1 or v2"),
        (resnet, {"shortcut": "C"}, "A_both"),
        (resnet, {"padding": "valid"}, "same_tensorflow"),
        (wrn, {"dropout": 1.0}, "probability"),
    ],
)
def test_what_does_not_exist_is_said(factory, arguments: dict, word: str):
    with pytest.raises(ValueError, match=word):
        factory(**arguments)


@pytest.mark.slow
@pytest.mark.parametrize(("saving", "most"), [(False, 18.5), (True, 6.5)])
def test_resnet1001_trains_within_24_gb_at_batch_128(saving: bool, most: float):
    """GiB that the forward pass keeps for the backward one; a block's own, computed anew, are 0.1 GiB."""
    with torch.device("meta"):
        network = resnet(depth=1001, block="v2", activation_checkpointing=saving).train()
        images = torch.empty(128, 3, 32, 32)
    kept: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, nn.Parameter):
            kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        network(images)
    assert most / 2 < sum(tensor.untyped_storage().nbytes() for tensor in kept.values()) / 2**30 < most
