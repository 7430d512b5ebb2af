"""A tape: steps may overlap, are gone back once, see what was changed meanwhile, and leave no memory behind."""

from __future__ import annotations

import gc

import pytest
import torch
import torch.nn.functional as F

from models.native.buffers import BUFFERS
from models.native.tape import enter, leave, lie_as_planes
from tests.models.networks.two_forms import NETWORKS, batch_of, build, furthest, step


@pytest.mark.parametrize("name", NETWORKS)
def test_two_forwards_before_two_backwards(name):
    network = build(name).eval()
    images, labels = batch_of(6)
    halves = [(images[:2], labels[:2]), (images[2:], labels[2:])]
    apart = [step(network, *half)[1] for half in halves]
    network.zero_grad()
    losses = [F.cross_entropy(network(given), wanted) for given, wanted in halves]
    for loss in losses:
        loss.backward()
    both = {key: parameter.grad for key, parameter in network.named_parameters()}
    assert furthest(both, {key: apart[0][key] + apart[1][key] for key in apart[0]}) < 1e-12


def test_going_back_twice_is_an_error():
    network = build("static")
    loss = network(batch_of(2)[0]).sum()
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="gone back through once"):
        loss.backward()


def test_weights_that_were_changed_before_going_back_are_an_error():
    network = build("discrete_time", "complete")
    loss = network(batch_of(2)[0]).sum()
    with torch.no_grad():
        network.step.conv.weight.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_second_derivatives_are_an_error():
    network = build("static")
    images = batch_of(2)[0].requires_grad_()
    (gradient,) = torch.autograd.grad(network(images).square().sum(), images, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


@pytest.mark.parametrize("shape", [(1, 3, 4, 5), (6, 3, 4, 5), (6, 1, 1, 1)])
@pytest.mark.parametrize("form", ["images", "channels last", "planes", "every second"])
def test_images_enter_and_leave_in_any_order_of_memory(form, shape):
    torch.manual_seed(0)
    images = torch.randn(shape, dtype=torch.float64)
    if form == "channels last":
        images = images.contiguous(memory_format=torch.channels_last)
    elif form == "planes":
        images = images.permute(1, 2, 3, 0).contiguous().permute(3, 0, 1, 2)
        assert lie_as_planes(images)
    elif form == "every second":
        images = torch.randn(*shape[:3], 2 * shape[3], dtype=torch.float64)[..., ::2]
    images.requires_grad_()
    found = leave(enter(images))
    assert found.equal(images)
    assert found.data_ptr() != images.data_ptr()
    factors = torch.randn(shape, dtype=torch.float64)
    (gradient,) = torch.autograd.grad((found * factors).sum(), images)
    assert gradient.equal(factors)


@pytest.mark.parametrize("backward", [True, False])
@pytest.mark.parametrize("name", NETWORKS)
def test_no_memory_is_left_behind(name, backward):
    network, (images, labels) = build(name), batch_of(8)

    def tensors() -> int:
        return sum(torch.is_tensor(thing) for thing in gc.get_objects() if type(thing) is torch.Tensor)

    counts, free = [], []
    gc.disable()  # memory must come back without it
    try:
        for _ in range(30):
            network.zero_grad()
            loss = F.cross_entropy(network(images), labels)
            if backward:
                loss.backward()
            del loss
            counts.append(tensors())
            free.append(BUFFERS.free_bytes)
    finally:
        gc.enable()
    assert max(counts[10:]) <= counts[9]
    assert max(free[10:]) <= free[9]
    assert free[9] > 0
