"""Nodes and sums on planes: values and gradients are those of torch's operations, for odd sizes and both strides."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.native.nodes import Sources, normalized
from models.native.tape import enter, leave

CHANNELS = 5


def norm_of(kind: str) -> nn.Module | None:
    if kind == "none":
        return None
    made = nn.InstanceNorm2d if kind == "instance" else nn.BatchNorm2d
    norm = made(CHANNELS, affine=True).double()
    nn.init.uniform_(norm.weight, 0.5, 1.5)
    nn.init.uniform_(norm.bias, -0.5, 0.5)
    return norm.train(kind != "fixed")


def gradients(result: Tensor, *inputs: Tensor | None) -> list[Tensor]:
    weigh = torch.linspace(-1, 1, result.numel(), dtype=result.dtype).view(result.shape)
    return list(torch.autograd.grad((result * weigh).sum(), [t for t in inputs if t is not None]))


@pytest.mark.parametrize("batch", [1, 3, 8, 17])
@pytest.mark.parametrize("size", [(1, 2), (5, 7), (8, 8), (2, 9)])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kind", ["none", "batch", "instance", "fixed"])
def test_a_node_and_its_edges_are_torchs(kind, stride, size, batch):
    torch.manual_seed(0)
    norm = norm_of(kind)
    images = torch.randn(batch, CHANNELS, *size, dtype=torch.float64, requires_grad=True)
    kernel = torch.randn(CHANNELS, 1, 3, 3, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(4, CHANNELS, dtype=torch.float64)
    weight[torch.rand(4, CHANNELS) < 0.5] = 0
    weight.requires_grad_()
    inputs = (images, kernel, weight, *(() if norm is None else (norm.weight, norm.bias)))

    twin = copy.deepcopy(norm)
    planes = enter(images)
    sources = Sources(planes.tape, tuple((side - 1) // stride + 1 for side in size), CHANNELS)
    sources.grow(planes, norm, kernel, stride)
    found = leave(sources.sum(weight))
    ours = gradients(found, *inputs)

    normed = images if twin is None else twin(images)
    spread = F.conv2d(F.relu(normed), kernel, padding=1, stride=stride, groups=CHANNELS)
    expected = F.conv2d(spread, weight[:, :, None, None])
    inputs = (images, kernel, weight, *(() if twin is None else (twin.weight, twin.bias)))
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-11)
    for one, other in zip(ours, gradients(expected, *inputs), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10 * max(1.0, float(other.abs().max())))
    if kind == "batch":
        torch.testing.assert_close(dict(norm.named_buffers()), dict(twin.named_buffers()), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("dense", [True, False])
def test_a_norm_alone_of_some_channels(dense, relu):
    torch.manual_seed(0)
    norm = norm_of("instance")
    images = torch.randn(3, 2, 4, 5, dtype=torch.float64)
    if dense:
        images = images.permute(1, 2, 3, 0).contiguous().permute(3, 0, 1, 2)
    images.requires_grad_()
    channels = slice(2, 4)
    found = leave(normalized(enter(images), norm, channels, relu))
    assert found.stride() == images.stride()
    expected = F.instance_norm(images, weight=norm.weight[channels], bias=norm.bias[channels])
    expected = F.relu(expected) if relu else expected
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-12)
    inputs = (images, norm.weight, norm.bias)
    for one, other in zip(gradients(found, *inputs), gradients(expected, *inputs), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-11)


def test_sums_onto_a_part_of_other_planes():
    torch.manual_seed(0)
    images = torch.randn(3, CHANNELS, 4, 3, dtype=torch.float64, requires_grad=True)
    kernel = torch.randn(CHANNELS, 1, 3, 3, dtype=torch.float64)
    weight = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    planes = enter(images)
    sources = Sources(planes.tape, (4, 3), CHANNELS)
    sources.grow(planes, None, kernel)
    found = leave(sources.sum(weight, first=1, onto=planes.part(slice(3, 5))))
    spread = F.conv2d(F.relu(images), kernel, padding=1, groups=CHANNELS)
    expected = images[:, 3:] + F.conv2d(spread[:, 1:4], weight[:, :, None, None])
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    for one, other in zip(gradients(found, images, weight), gradients(expected, images, weight), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("batch", [1, 3, 130])
@pytest.mark.parametrize("also_whole", [True, False])
@pytest.mark.parametrize("dense", [True, False])
def test_sums_within_a_window(dense, also_whole, batch):
    torch.manual_seed(0)
    window = (1, 3, 2, 5)
    images = torch.randn(batch, CHANNELS, 4, 6, dtype=torch.float64)
    if dense:
        images = images.permute(1, 2, 3, 0).contiguous().permute(3, 0, 1, 2)
    images.requires_grad_()
    kernel = torch.randn(CHANNELS, 1, 3, 3, dtype=torch.float64, requires_grad=True)
    weights = [torch.randn(rows, columns, dtype=torch.float64) for rows, columns in ((CHANNELS, CHANNELS), (3, 4))]
    weights[1][torch.rand(3, 4) < 0.4] = 0
    weights = [weight.requires_grad_() for weight in weights]

    planes = enter(images)
    sources = Sources(planes.tape, (4, 6), CHANNELS)
    sources.grow(planes, None, kernel)
    onto = sources.sum(weights[0]).part(slice(0, 3)) if also_whole else planes.part(slice(0, 3))
    found = leave(sources.sum(weights[1], 1, onto.window(window), window).window((0, 2, 0, 3)))

    spread = F.conv2d(F.relu(images), kernel, padding=1, groups=CHANNELS)
    whole = F.conv2d(spread, weights[0][:, :, None, None])[:, :3] if also_whole else images[:, :3]
    expected = (whole + F.conv2d(spread[:, 1:], weights[1][:, :, None, None]))[:, :, 1:3, 2:5]
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-11)
    inputs = (images, kernel, *weights[0 if also_whole else 1 :])
    for one, other in zip(gradients(found, *inputs), gradients(expected, *inputs), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10 * max(1.0, float(other.abs().max())))


@pytest.mark.parametrize("kind", ["none", "batch", "instance", "fixed"])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(1, 2), (5, 7), (8, 6)])
@pytest.mark.parametrize("window", [None, (0, 1, 0, 1), (1, 4, 1, 3), (1, 3, 0, 2)])
def test_sources_that_no_edge_reaches_have_the_gradient_of_any(kind, stride, size, window):
    out = tuple((side - 1) // stride + 1 for side in size)
    if window and (window[1] > out[0] or window[3] > out[1]):
        window = None
    torch.manual_seed(0)
    norm = norm_of(kind)
    images = torch.randn(6, CHANNELS, *size, dtype=torch.float64, requires_grad=True)
    kernels = torch.randn(2, CHANNELS, 1, 3, 3, dtype=torch.float64)
    weights = [torch.randn(rows, CHANNELS, dtype=torch.float64) for rows in (CHANNELS, 3)]
    weights[0][[1, 2, 4]] = 0
    weights = [weight.requires_grad_() for weight in weights]
    inputs = (images, *weights, *(() if norm is None else (norm.weight, norm.bias)))

    twin = copy.deepcopy(norm)
    planes = enter(images)
    first = Sources(planes.tape, size, CHANNELS)
    first.grow(planes, None, kernels[0])
    second = Sources(planes.tape, out, CHANNELS)
    second.grow(first.sum(weights[0]), norm, kernels[1], stride)
    assert second._still.tolist() == [False, True, True, False, True]
    found = leave(second.sum(weights[1], window=window))
    ours = gradients(found, *inputs)

    summed = F.conv2d(F.conv2d(F.relu(images), kernels[0], padding=1, groups=CHANNELS), weights[0][:, :, None, None])
    normed = summed if twin is None else twin(summed)
    expected = F.conv2d(F.relu(normed), kernels[1], padding=1, stride=stride, groups=CHANNELS)
    expected = F.conv2d(expected, weights[1][:, :, None, None])
    top, bottom, left, right = window or (0, out[0], 0, out[1])
    expected = expected[:, :, top:bottom, left:right]
    inputs = (images, *weights, *(() if twin is None else (twin.weight, twin.bias)))
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-11)
    for one, other in zip(ours, gradients(expected, *inputs), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10 * max(1.0, float(other.abs().max())))


def test_sources_that_nobody_sums_get_no_gradient():
    images = torch.ones(2, CHANNELS, 3, 3, dtype=torch.float64, requires_grad=True)
    kernel = torch.ones(CHANNELS, 1, 3, 3, dtype=torch.float64, requires_grad=True)
    planes = enter(images)
    sources = Sources(planes.tape, (3, 3), 2 * CHANNELS)
    sources.grow(planes, None, kernel)
    sources.grow(planes, None, kernel[:, :, :, :])
    weight = torch.ones(1, 2, dtype=torch.float64)
    (gradient,) = torch.autograd.grad(leave(sources.sum(weight, first=CHANNELS - 2)).sum(), images)
    assert gradient[:, CHANNELS - 2 :].gt(0).all()
    assert not gradient[:, : CHANNELS - 2].any()


@pytest.mark.parametrize("kind", ["batch", "instance"])
def test_one_value_has_no_norm(kind):
    planes = enter(torch.ones(1, CHANNELS, 1, 1))
    with pytest.raises(ValueError, match="more than one value"):
        normalized(planes, norm_of(kind))


def test_edges_are_listed_anew_where_a_weight_was_changed_in_place():
    torch.manual_seed(0)
    images, weight = torch.randn(2, 3, 4, 4), torch.randn(4, 3)
    kernel = torch.zeros(3, 1, 3, 3)
    kernel[:, :, 1, 1] = 1  # as it is
    with torch.no_grad():
        for _ in range(2):
            planes = enter(images)
            sources = Sources(planes.tape, (4, 4), 3)
            sources.grow(planes, None, kernel)
            found = leave(sources.sum(weight))
            torch.testing.assert_close(found, F.conv2d(images.relu(), weight[:, :, None, None]))
            weight[1:] = 0
            weight[0, 2] = 7


@pytest.mark.parametrize("kind", ["expanded", "dense", "images"])
def test_a_gradient_of_any_strides_is_read_and_left_as_it_is(kind):
    torch.manual_seed(0)
    norm = norm_of("instance")
    images = torch.randn(2, 3, 4, CHANNELS, dtype=torch.float64).permute(0, 3, 1, 2)
    images = images.permute(1, 2, 3, 0).contiguous().permute(3, 0, 1, 2).requires_grad_()
    given = {
        "expanded": torch.randn(2, CHANNELS, 1, 1, dtype=torch.float64).expand(2, CHANNELS, 3, 4),
        "dense": torch.randn(CHANNELS, 3, 4, 2, dtype=torch.float64).permute(3, 0, 1, 2),
        "images": torch.randn(2, CHANNELS, 3, 4, dtype=torch.float64),
    }[kind]
    before = given.clone()
    found = torch.autograd.grad(leave(normalized(enter(images), norm)), images, given)[0]
    torch.testing.assert_close(found, torch.autograd.grad(norm(images), images, before)[0], rtol=0, atol=1e-11)
    assert given.equal(before)
