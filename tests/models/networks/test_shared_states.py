"""One buffer for the outputs and the gradients of a graph's nodes, against the sums written out with autograd."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from models.networks import shared_states
from models.networks.shared_states import NodeOrder, SharedStates, dropout, keep_mask

ORDER = NodeOrder(
    levels=((0, 2), (2, 4), (4, 5), (5, 7)),
    edges=frozenset({(0, 2), (1, 2), (1, 3), (2, 4), (0, 4), (3, 4), (3, 5), (4, 5), (0, 6), (4, 6)}),
)
"""Seven nodes: two inputs, two levels between, two outputs."""


def matrix(batch: int) -> Tensor:
    """[batch, to, from], a weight for each edge."""
    weight = torch.zeros(batch, 7, 7, dtype=torch.float64)
    for start, end in ORDER.edges:
        weight[:, end, start] = torch.randn(batch, dtype=torch.float64)
    return weight


def node(slot: int, x: Tensor) -> Tensor:
    """Something else at every node, whose gradient needs its input."""
    return (x + 0.1 * slot).square()


def shared(weight: Tensor, images: Tensor) -> Tensor:
    states = SharedStates(ORDER, weight)
    inputs = [images, 2 * images]
    for start, stop in ORDER.levels:
        outputs = [node(slot, x) for slot, x in zip(range(start, stop), inputs, strict=True)]
        if stop < ORDER.slots:
            states.publish(outputs)
            inputs = states.collect()
    return torch.stack(outputs)


def written_out(weight: Tensor, images: Tensor) -> Tensor:
    states: list[Tensor] = []
    for slot in range(7):
        if slot < 2:
            total = images * (slot + 1)
        else:
            total = sum(states[i] * weight[:, slot, i, None, None, None] for i in ORDER.sources[slot]).relu()
        states.append(node(slot, total))
    return torch.stack(states[5:])


def test_an_order_knows_who_feeds_whom():
    assert ORDER.slots == 7
    assert ORDER.sources == ((), (), (0, 1), (1,), (0, 2, 3), (3, 4), (0, 4))
    assert ORDER.targets == ((2, 4, 6), (2, 3), (4,), (4, 5), (5, 6), (), ())
    assert ORDER.dense_in(1)  # 3 of 4 entries
    assert not NodeOrder(((0, 3), (3, 4)), frozenset({(1, 3)})).dense_in(1)  # 1 of 3
    assert not ORDER.dense_out(0) or shared_states.DENSE_SHARE * 10 <= 5
    assert NodeOrder(((0, 1), (1, 3)), frozenset({(0, 1)})).dense_out(0)  # 1 of 2


@pytest.mark.parametrize("share", [0.0, 0.4, 2.0], ids=["dense", "as it is", "edge by edge"])
@pytest.mark.parametrize("per_image", [False, True])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_outputs_and_gradients(share: float, per_image: bool, layout: torch.memory_format, monkeypatch):
    monkeypatch.setattr(shared_states, "DENSE_SHARE", share)
    torch.manual_seed(0)
    weight = matrix(3 if per_image else 1)
    images = torch.rand(3, 2, 4, 3, dtype=torch.float64).contiguous(memory_format=layout)
    factors = torch.randn(2, 3, 2, 4, 3, dtype=torch.float64)
    found = []
    for form in (shared, written_out):
        own, given = weight.clone().requires_grad_(), images.clone().requires_grad_()
        out = form(own, given)
        (out * factors).sum().backward()
        mask = weight != 0
        found.append((out.detach(), torch.where(mask, own.grad, 0), given.grad))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_products_in_small_parts_are_the_same(monkeypatch):
    monkeypatch.setattr(shared_states, "DENSE_SHARE", 0.0)
    torch.manual_seed(0)
    weight, images = matrix(1), torch.rand(5, 2, 4, 3, dtype=torch.float64)
    whole = shared(weight, images)
    monkeypatch.setattr(shared_states, "CACHED_ELEMENTS", 1)
    assert shared(weight, images).equal(whole)


def test_a_second_backward_is_an_error():
    weight, images = matrix(1).requires_grad_(), torch.rand(1, 1, 2, 2, dtype=torch.float64)
    out = shared(weight, images).sum()
    out.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="one backward pass; run it forward again"):
        out.backward()


def test_masks_keep_the_share_that_they_say():
    torch.manual_seed(0)
    like = torch.empty(64, 33, 9, 7).contiguous(memory_format=torch.channels_last)
    mask = keep_mask(like, 0.3)
    assert mask.shape == like.shape
    assert mask.is_contiguous(memory_format=torch.channels_last)
    assert set(mask.unique().tolist()) == {0, 1}
    assert float(mask.float().mean()) == pytest.approx(0.7, abs=0.01)
    assert bool(keep_mask(like, 0.0).all())


def test_dropout_and_its_gradient():
    torch.manual_seed(0)
    x = torch.ones(1000, requires_grad=True)
    y = dropout(x, 0.25)
    y.sum().backward()
    assert y.unique().tolist() == pytest.approx([0, 4 / 3])
    assert x.grad.equal(y.detach())
    assert dropout(x, 0.0) is x


def test_published_outputs_are_dropped_alike_forward_and_backward():
    torch.manual_seed(0)
    order = NodeOrder(((0, 1), (1, 2)), frozenset({(0, 1)}))
    weight = torch.zeros(1, 2, 2)
    weight[0, 1, 0] = 3.0
    states, images = SharedStates(order, weight, dropout=0.5), torch.ones(4, 2, 5, 5, requires_grad=True)
    states.publish([images])
    (total,) = states.collect()
    assert set(total.unique().tolist()) == {0.0, 6.0}
    total.sum().backward()
    assert images.grad.equal(total.detach())
