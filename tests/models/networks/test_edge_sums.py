"""Sums over edges: the sparse form gives what the dense one gives, with its gradients, and is chosen where it pays."""

from __future__ import annotations

import pytest
import torch

from models.networks.edge_sums import DenseSums, SparseSums, sparse_sums_pay


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sparse_sums_equal_dense_ones_with_their_gradients(dtype):
    torch.manual_seed(0)
    results = []
    values = torch.randn(5, 7, dtype=dtype)
    values[torch.rand(5, 7) < 0.6] = 0
    values[2] = 0
    values[:, 3] = 0
    planes = [torch.randn(2, 4, 3, 3, dtype=dtype), torch.randn(2, 3, 3, 3, dtype=dtype)]
    factors = torch.randn(2, 5, 3, 3, dtype=dtype)
    for sums in (DenseSums, SparseSums):
        weight = values.clone().requires_grad_()
        first, second = (p.clone().requires_grad_() for p in planes)
        sources = sums(first)
        sources.append(second)
        out = sources.sum(weight)
        (out * factors).sum().backward()
        results.append((out.detach(), weight.grad, first.grad, second.grad))
    for dense, sparse in zip(*results, strict=True):
        torch.testing.assert_close(sparse, dense)
    assert results[1][1].count_nonzero() == 35  # edges that do not act get their gradient as well


def test_sparse_sums_are_chosen_where_few_edges_of_many_act():
    few, many = torch.zeros(512, 1024), torch.ones(512, 1024)
    few[:, :10] = 1
    planes = torch.zeros(2, 1024, 4, 4)
    assert sparse_sums_pay([few], planes)
    assert not sparse_sums_pay([many], planes)
    assert not sparse_sums_pay([few[:8, :16]], planes)
    assert not sparse_sums_pay([few], planes.bfloat16())


@pytest.mark.parametrize("sums", [DenseSums, SparseSums])
def test_gradients_are_those_of_finite_differences(sums):
    torch.manual_seed(1)
    weight = torch.randn(3, 4, dtype=torch.float64)
    planes = torch.randn(2, 4, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: sums(x).sum(weight), (planes,))


@pytest.mark.parametrize("sums", [DenseSums, SparseSums])
def test_nothing_acts(sums):
    weight, planes = torch.zeros(3, 4, requires_grad=True), torch.ones(2, 4, 2, 2, requires_grad=True)
    out = sums(planes).sum(weight)
    out.sum().backward()
    assert out.shape == (2, 3, 2, 2)
    assert not out.any()
    assert not planes.grad.any()
    assert weight.grad.equal(torch.full((3, 4), 8.0))


def test_a_gradient_that_nobody_asks_for_is_not_worked_out():
    weight = torch.eye(2, requires_grad=True)
    SparseSums(torch.ones(1, 2, 2, 2)).sum(weight).sum().backward()
    assert weight.grad.equal(torch.full((2, 2), 4.0))
    planes = torch.ones(1, 2, 2, 2, requires_grad=True)
    SparseSums(planes).sum(2 * torch.eye(2)).sum().backward()
    assert planes.grad.equal(torch.full((1, 2, 2, 2), 2.0))


def test_autocast_keeps_the_sums_dense():
    few = torch.zeros(512, 1024)
    few[0, 0] = 1
    with torch.autocast("cpu", torch.bfloat16):
        assert not sparse_sums_pay([few], torch.zeros(2, 1024, 4, 4))


def test_an_exported_network_keeps_the_sums_dense():
    class Asking(torch.nn.Module):
        def forward(self, planes: torch.Tensor, few: torch.Tensor) -> torch.Tensor:
            return planes + float(sparse_sums_pay([few], planes))

    planes, few = torch.zeros(2, 1024, 4, 4), torch.zeros(512, 1024)
    assert Asking()(planes, few).all()
    assert not torch.export.export(Asking(), (planes, few)).module()(planes, few).any()
