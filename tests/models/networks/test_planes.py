"""Wired networks in their two forms: the native one gives what torch's gives, and is chosen where it can run."""

from __future__ import annotations

import copy
import pickle
import warnings

import pytest
import torch
from torch import nn

from models.native.library import NoCompilerError
from models.networks import planes
from models.networks.planes import enter, is_native, leave, torch_form
from models.wirings.registry import WIRINGS
from tests.models.networks.two_forms import NETWORKS, batch_of, build, furthest, norms, step


def assert_equal_steps(network: nn.Module, batch: int, image_size: int) -> None:
    twin = copy.deepcopy(network)
    images, labels = batch_of(batch, image_size)
    loss, gradients = step(network, images, labels)
    expected, theirs = step(twin, images, labels, native=False)
    assert abs(float(loss - expected)) < 1e-12 * max(1.0, float(expected))
    assert furthest(gradients, theirs) < 1e-10
    for ours, other in zip(network.buffers(), twin.buffers(), strict=True):
        torch.testing.assert_close(ours, other, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("image_size", [16, 21, 33])
@pytest.mark.parametrize("batch", [1, 7, 130])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_step_is_torchs_for_every_batch_and_size(name, batch, image_size):
    assert_equal_steps(build(name, image_size=image_size), batch, image_size)


@pytest.mark.parametrize("wiring", WIRINGS)
@pytest.mark.parametrize("name", NETWORKS)
def test_a_step_is_torchs_under_every_rule(name, wiring):
    assert_equal_steps(build(name, wiring), 3, 16)


@pytest.mark.parametrize("prune_rate", [0.0, 0.97])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_step_is_torchs_where_all_or_few_edges_act(name, prune_rate):
    assert_equal_steps(build(name, prune_rate=prune_rate), 5, 16)


@pytest.mark.parametrize("feature_dim", [8, 9, 11, 26, 28])
def test_the_features_of_the_static_network_may_span_blocks(feature_dim):
    assert_equal_steps(build("static", feature_dim=feature_dim), 4, 16)


@pytest.mark.parametrize("more", [{"solver": "dopri5"}, {"solver": "euler"}, {"relu_in_place": False}])
def test_a_step_is_torchs_whatever_the_solver(more):
    assert_equal_steps(build("continuous_time", **more), 3, 16)


@pytest.mark.parametrize("gradients", [True, False])
@pytest.mark.parametrize("name", NETWORKS)
def test_evaluation_is_torchs(name, gradients):
    network = build(name)
    images, labels = batch_of(5)
    step(network, images, labels)
    network.eval()
    if gradients:
        assert_equal_steps(network, 5, 16)
    with torch.inference_mode():
        found = network(images)
        with torch_form():
            torch.testing.assert_close(found, network(images), rtol=1e-11, atol=1e-12)
    assert_equal_steps(network.train(), 5, 16)  # memory that evaluation used serves training


def kept_from_zero(network: nn.Module) -> nn.Module:
    """All arguments of ReLUs are far above zero or far below it."""
    for norm in norms(network):
        nn.init.uniform_(norm.weight, 0.5, 1.0)
        norm.bias.data = torch.where(torch.arange(len(norm.bias)) % 4 == 3, -8.0, 8.0).double()
    return network


@pytest.mark.parametrize("name", NETWORKS)
def test_a_step_in_single_precision_is_near_the_double_one(name):
    network = kept_from_zero(build(name))
    images, labels = batch_of(7)
    _, expected = step(copy.deepcopy(network), images, labels, native=False)
    _, single = step(network.float(), images.float(), labels)
    _, torchs = step(network, images.float(), labels, native=False)
    assert furthest(single, expected) < max(1e-5, 2 * furthest(torchs, expected))


@pytest.mark.parametrize("name", NETWORKS)
def test_the_same_step_gives_the_same_bits(name):
    network, (images, labels) = build(name).float(), batch_of(9)
    twin = copy.deepcopy(network)
    loss, gradients = step(network, images.float(), labels)
    again, others = step(twin, images.float(), labels)
    assert loss.equal(again)
    assert all(gradients[key].equal(others[key]) for key in gradients)


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_are_copied_and_pickled_after_a_step(name):
    network, (images, labels) = build(name), batch_of(2)
    step(network, images, labels)
    for twin in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        with torch.no_grad():
            assert twin.eval()(images).equal(network.eval()(images))


@pytest.mark.parametrize("name", NETWORKS)
def test_a_gradient_for_some_parameters_alone(name):
    network, (images, labels) = build(name), batch_of(3)
    for parameter, tensor in network.named_parameters():
        tensor.requires_grad_("graph" in parameter)
    assert_equal_steps(network, 3, 16)
    assert all("graph" in parameter for parameter in step(network, images, labels)[1])
    for parameter, tensor in network.named_parameters():
        tensor.requires_grad_(parameter.startswith(("fc", "linear")))
    assert_equal_steps(network, 3, 16)


@pytest.mark.parametrize("name", NETWORKS)
def test_images_get_their_gradient(name):
    network, (images, _) = build(name).eval(), batch_of(2)
    gradients = []
    for native in (True, False):
        given = images.clone().requires_grad_()
        with torch_form() if not native else torch.enable_grad():
            (gradient,) = torch.autograd.grad(network(given).square().sum(), given)
        gradients.append(gradient)
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_not_a_number_reaches_the_loss(name):
    network, (images, labels) = build(name), batch_of(3)
    images[1, 0, 8, 8] = float("nan")
    loss, _ = step(network, images, labels)
    expected, _ = step(network, images, labels, native=False)
    assert loss.isnan()
    assert expected.isnan()


def test_batch_norm_wants_more_than_one_value():
    network = build("mobilenetv1_like", stages=((4, 8, 2, 2), (8, 12, 2, 2), (12, 12, 2, 1)))
    images, _ = batch_of(1, 16)
    for context in (torch.enable_grad(), torch_form()):
        with context, pytest.raises(ValueError, match="more than "):
            network(images[:, :, :8, :8])


def test_the_native_form_is_chosen_where_it_can_run():
    network, images = build("static"), torch.ones(2, 4, 6, 6)
    assert isinstance(enter(images, network), planes.Planes)
    assert leave(enter(images, network)).equal(images)
    assert enter(images.bfloat16(), network).dtype is torch.bfloat16
    for given in (images.bfloat16(), images.half(), images[:0], images[0], images.to("meta")):
        assert not is_native(given, network)
    with torch.autocast("cpu", torch.bfloat16):
        assert not is_native(images, network)
    with torch_form():
        assert not is_native(images, network)
        with torch_form():
            pass
        assert enter(images, network) is images
    assert is_native(images, network)


@pytest.mark.parametrize(
    "norm",
    [
        nn.BatchNorm2d(4, momentum=None),
        nn.BatchNorm2d(4, affine=False),
        nn.BatchNorm2d(4, track_running_stats=False),
        nn.SyncBatchNorm(4),
        nn.BatchNorm1d(4),
        nn.InstanceNorm2d(4, affine=True, track_running_stats=True),
    ],
)
def test_other_norms_keep_torchs_form(norm):
    network = nn.Sequential(nn.BatchNorm2d(4), norm)
    assert not is_native(torch.ones(2, 4, 6, 6), network)


def test_function_transforms_see_torchs_operations():
    network, (images, _) = build("static", "complete").eval(), batch_of(3)
    expected = network(images).detach()
    each = torch.func.vmap(lambda image: network(image[None])[0])(images)
    torch.testing.assert_close(each.detach(), expected, rtol=1e-9, atol=1e-12)
    direction = torch.randn_like(images)
    _, slope = torch.func.jvp(network, (images,), (direction,))
    ahead = (network(images + 1e-6 * direction) - network(images - 1e-6 * direction)) / 2e-6
    torch.testing.assert_close(slope, ahead, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("wiring", ["complete", "dnw", "dnw_no_update"])
@pytest.mark.parametrize("name", ["static", "discrete_time", "mobilenetv1_like"])
def test_exported_networks_are_torchs(name, wiring):
    # torch takes no module at the top that is called graph
    network, (images, _) = nn.Sequential(build(name, wiring)).eval(), batch_of(2)
    with torch.no_grad():
        expected = network(images)
        exported = torch.export.export(network, (images,)).module()
        torch.testing.assert_close(exported(images), expected, rtol=1e-9, atol=1e-12)
        for key, weight in network.named_parameters():  # the same tensors as in what was exported
            if key.endswith("graph.weight"):
                weight.copy_(weight.flip(0))
        changed = network(images)
        assert not torch.allclose(changed, expected)
        torch.testing.assert_close(exported(images), changed, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["static", "mobilenetv1_like"])
def test_traced_networks_are_torchs(name):
    network, (images, _) = build(name, "complete").eval(), batch_of(2)
    with torch.no_grad():
        traced = torch.jit.trace(network, (images,))
        torch.testing.assert_close(traced(images), network(images), rtol=1e-9, atol=1e-12)


def test_without_a_compiler_torchs_form_runs_with_one_notice(monkeypatch):
    def missing() -> None:
        raise NoCompilerError("There is no C++ compiler (c++) here.")

    network, (images, labels) = build("static"), batch_of(2)
    planes._compiled.cache_clear()
    monkeypatch.setattr(planes, "load_kernel", missing)
    try:
        with pytest.warns(UserWarning, match="several times as slowly: There is no C\\+\\+ compiler"):
            loss, _ = step(network, images, labels)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            again, _ = step(network, images, labels)
    finally:
        planes._compiled.cache_clear()
    assert loss.equal(again)
