"""One step of the training loop: gradients, clipping, precision."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.genutil.parts import (
    Batch,
    make_data,
    make_training,
    recipe,
    state,
)

pytestmark = pytest.mark.usefixtures("one_thread")


def one_update(network: nn.Module, batch: Batch, **settings) -> dict[str, Tensor]:
    """Weights after one plain SGD step of the loop on a batch."""
    experiment = recipe(momentum=0, weight_decay=0, lr=1.0, **settings)
    training = make_training(None, experiment, network=network)
    training.module.train()
    training.update(batch, lr=1.0)
    return state(network)


def make_batch() -> Batch:
    return next(make_data().train.epoch(0))


def plain_net() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 4))


def test_the_gradient_is_that_of_the_mean_over_the_batch() -> None:
    network, batch = plain_net(), make_batch()
    F.cross_entropy(network(batch.images), batch.labels).backward()
    expected = network[1].weight.detach() - network[1].weight.grad
    found = one_update(plain_net(), batch)["1.weight"]
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-7)


def test_label_smoothing_spreads_a_share_of_the_target() -> None:
    network, batch = plain_net(), make_batch()
    target = 0.8 * F.one_hot(batch.labels, 4) + 0.2 / 4
    (-(target * network(batch.images).log_softmax(1)).sum(1).mean()).backward()
    expected = network[1].weight.detach() - network[1].weight.grad
    found = one_update(plain_net(), batch, label_smoothing=0.2)["1.weight"]
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-7)


def test_clipping_bounds_the_norm_of_the_whole_gradient() -> None:
    batch = make_batch()
    start = state(plain_net())
    free, clipped = one_update(plain_net(), batch), one_update(plain_net(), batch, clip_grad_norm=0.01)

    def norm(after: dict[str, Tensor]) -> float:
        return math.sqrt(sum((after[name] - start[name]).square().sum().item() for name in start))

    assert norm(free) > 0.1
    assert norm(clipped) == pytest.approx(0.01, rel=1e-3)
    generous = one_update(plain_net(), batch, clip_grad_norm=100.0)
    torch.testing.assert_close(generous["1.weight"], free["1.weight"])


def test_bf16_trains_in_bf16_and_keeps_full_weights() -> None:
    from lightning_fabric import Fabric

    seen = []

    class Spy(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            y = super().forward(x)
            seen.append(y.dtype)
            return y

    network = nn.Sequential(nn.Flatten(), Spy(16, 4))
    fabric = Fabric(accelerator="cpu", devices=1, precision="bf16-mixed")
    training = make_training(None, recipe(num_epochs=1), network=network, fabric=fabric)
    training.run()
    assert set(seen) == {torch.bfloat16}
    assert network[1].weight.dtype == torch.float32


@pytest.mark.parametrize("name", ["highest", "medium"])
def test_products_of_matrices_have_the_precision_of_the_recipe(name: str) -> None:
    seen = []

    class Network(nn.Sequential):
        def forward(self, images: Tensor) -> Tensor:
            seen.append(torch.get_float32_matmul_precision())
            logits = super().forward(images)
            logits.register_hook(lambda _: seen.append(torch.get_float32_matmul_precision()))
            return logits

    one_update(Network(*plain_net()), make_batch(), matmul_precision=name)
    assert seen == [name, name]
    assert torch.get_float32_matmul_precision() == "highest"
