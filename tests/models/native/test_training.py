"""The kernels of training: sums over edges are products with the matrix, and turning images to planes loses nothing."""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path
from unittest import mock

import pytest
import torch
from torch import Tensor

from models.native import training
from models.native.selection import keep_largest
from models.native.training import Edges, Reached, Term, product_at_edges, row_length, sum_over_edges
from tests.models.sanitizers import assert_clean

ROOT = Path(__file__).parents[3]


def planes_of(rows: int, positions: int, dtype: torch.dtype) -> Tensor:
    planes = torch.full((rows, row_length(positions, dtype)), float("nan"), dtype=dtype)
    planes[:, :positions] = torch.randn(rows, positions, dtype=dtype)
    return planes


def sparse_matrix(nodes: int, sources: int, density: float, dtype: torch.dtype) -> Tensor:
    return torch.randn(nodes, sources, dtype=dtype) * (torch.rand(nodes, sources) < density)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("density", [0.0, 0.1, 1.0])
@pytest.mark.parametrize(("nodes", "sources", "positions"), [(1, 1, 1), (5, 3, 7), (70, 131, 448), (300, 90, 65)])
def test_sums_over_edges_are_products(nodes, sources, positions, density, dtype):
    torch.manual_seed(nodes)
    weight = sparse_matrix(nodes, sources, density, dtype)
    given, edges = planes_of(sources, positions, dtype), Edges(weight)
    sums = planes_of(nodes, positions, dtype)
    sum_over_edges([Term(edges.to_nodes, given)], sums, positions)
    assert_sums(sums[:, :positions], weight, given[:, :positions])
    first = sources // 2
    back = planes_of(sources - first, positions, dtype)
    before = back[:, :positions].clone()
    sum_over_edges([Term(edges.to_sources, sums, first)], back, positions, accumulate=True)
    terms = torch.cat([torch.eye(sources - first, dtype=dtype), weight.t()[first:]], dim=1)
    assert_sums(back[:, :positions], terms, torch.cat([before, sums[:, :positions]]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("density", [0.0, 0.02, 0.3, 1.0])
@pytest.mark.parametrize(
    ("nodes", "sources", "positions"),
    [(1, 1, 1), (5, 3, 7), (70, 131, 448), (300, 90, 65), (40, 700, 1000), (600, 150, 3500)],
)
def test_products_at_edges_are_entries_of_the_whole_product(nodes, sources, positions, density, threads, dtype):
    torch.manual_seed(nodes)
    weight = sparse_matrix(nodes, sources, density, dtype)
    given, gradient = planes_of(sources, positions, dtype), planes_of(nodes, positions, dtype)
    gradient[::4, :positions] = 0  # nodes that lead nowhere
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = product_at_edges(Edges(weight).to_nodes, gradient[:, :positions], given[:, :positions])
    finally:
        torch.set_num_threads(before)
    left, right = gradient[:, :positions].double(), given[:, :positions].double().t()
    acting = weight != 0
    bound = positions * torch.finfo(dtype).eps * (left.abs() @ right.abs()) * acting
    assert ((found.double() - left @ right * acting).abs() <= bound).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_products_are_made_at_marked_edges_too(dtype):
    torch.manual_seed(0)
    weight = sparse_matrix(70, 131, 0.05, dtype)
    marked = (torch.rand(70, 131) < 0.1) & (weight == 0)
    weight[~marked & (weight == 0)] = 0.0
    weight[marked] = -0.0
    edges = Edges(weight)
    assert edges.few_reached(Reached.ALL) is None
    assert edges.few_reached(Reached.NONZERO) is edges.to_nodes
    few = edges.few_reached(Reached.MARKED)
    given, gradient = (planes_of(rows, 90, dtype)[:, :90] for rows in (131, 70))
    found = product_at_edges(few, gradient, given)
    expected = gradient @ given.t() * (marked | (weight != 0))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert len(edges.to_nodes.source) == int((weight != 0).sum())
    assert Edges(torch.full((5, 7), -0.0, dtype=dtype)).few_reached(Reached.MARKED) is None  # all of them: not few


@pytest.mark.parametrize("accumulate", [False, True])
def test_terms_are_summed_together(accumulate):
    torch.manual_seed(0)
    nodes, positions, parts = 150, 200, ((200, 0.3), (3, 0.0), (90, 0.01), (40, 1.0))
    weights = [sparse_matrix(nodes + 5, sources, density, torch.float64) for sources, density in parts]
    given = [planes_of(weight.shape[1], positions, torch.float64) for weight in weights]
    pairs = list(zip(weights, given, strict=True))
    sums = planes_of(nodes, positions, torch.float64)
    before = sums[:, :positions].clone() if accumulate else torch.zeros(nodes, positions, dtype=torch.float64)
    terms = [Term(Edges(weight).to_nodes, planes, first) for first, (weight, planes) in enumerate(pairs)]
    sum_over_edges(terms, sums, positions, accumulate=accumulate)
    exact = before + sum(
        weight[first : first + nodes] @ planes[:, :positions] for first, (weight, planes) in enumerate(pairs)
    )
    torch.testing.assert_close(sums[:, :positions], exact, rtol=1e-12, atol=1e-12)


def test_blocks_hold_several_edges_of_a_node():
    torch.manual_seed(0)
    few, many = (Edges(sparse_matrix(50, 1000, density, torch.float32)).to_nodes for density in (0.01, 0.5))
    assert few.block > many.block == training.SOURCES_NEAR
    for edges in (few, many):
        assert edges.block * len(edges.begin) >= 1000 > edges.block * (len(edges.begin) - 1)
        ends = edges.begin[:, -1].tolist()
        for block, (start, end) in enumerate(pairwise([0, *ends])):
            assert (edges.source[start:end] // edges.block == block).all()


def assert_sums(found: Tensor, weight: Tensor, planes: Tensor) -> None:
    """They are off by no more than sums of so many terms can be."""
    exact = weight.double() @ planes.double()
    bound = weight.shape[1] * torch.finfo(found.dtype).eps * (weight.abs().double() @ planes.abs().double())
    assert ((found.double() - exact).abs() <= bound).all()


def test_edges_are_those_of_a_matrix_whose_rows_lie_apart():
    torch.manual_seed(0)
    whole = sparse_matrix(9, 20, 0.4, torch.float64)
    for weight in (whole[2:7, 3:11], whole.t()[4:, :5], whole[:, :1]):
        edges = Edges(weight)
        listed = edges.to_nodes
        assert len(listed.source) == int(weight.count_nonzero())
        assert listed.weight.sort().values.equal(weight[weight != 0].sort().values)
        assert edges.to_sources.weight.sort().values.equal(listed.weight.sort().values)
        given = planes_of(weight.shape[1], 6, torch.float64)
        sums = planes_of(weight.shape[0], 6, torch.float64)
        sum_over_edges([Term(listed, given)], sums, 6)
        torch.testing.assert_close(sums[:, :6], weight @ given[:, :6])


def test_sums_are_the_same_bits_whatever_the_number_of_threads():
    torch.manual_seed(0)
    given, edges = planes_of(64, 5000, torch.float32), Edges(sparse_matrix(100, 64, 0.2, torch.float32))
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(planes_of(100, 5000, torch.float32))
            sum_over_edges([Term(edges.to_nodes, given)], results[-1], 5000)
    finally:
        torch.set_num_threads(before)
    assert all(result[:, :5000].equal(results[0][:, :5000]) for result in results)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (3, 5, 2, 7), (33, 17, 4, 5), (16, 16, 1, 1)])
def test_images_become_planes_and_images_again(shape, memory_format):
    torch.manual_seed(0)
    batch, channels, height, width = shape
    images = torch.randn(shape).contiguous(memory_format=memory_format)
    planes = planes_of(channels, batch * height * width, torch.float32)
    training.to_planes(images, planes)
    expected = images.permute(1, 2, 3, 0).reshape(channels, -1)
    assert planes[:, : expected.shape[1]].equal(expected)
    again = torch.zeros_like(images)
    training.from_planes(planes, again)
    assert again.equal(images)


def test_rows_lie_an_odd_number_of_units_apart():
    for positions in (1, 64, 128, 129, 1000):
        for dtype in (torch.float32, torch.float64):
            row = row_length(positions, dtype)
            assert row >= positions
            assert row * dtype.itemsize % training.ROW_UNIT == 0
            assert row * dtype.itemsize // training.ROW_UNIT % 2 == 1


SANITIZED = ("-O1", "-std=c++17", "-march=native", "-fopenmp", "-fsanitize=address,undefined", "-fno-sanitize-recover")
UNDER_SANITIZERS = """
import models.native.training as training
from tests.models.native import test_training
kernel = training.load_kernel(test_training.SANITIZED)
training.load_kernel = lambda: kernel
for seed in range(40):
    test_training.run_everything(seed)
print("clean")
"""


def run_everything(seed: int) -> None:
    """Sums and nodes of random shapes, forward and back, in memory of exactly their size."""
    from torch import nn

    from models.native.nodes import Sources, normalized
    from models.native.tape import enter, leave

    chosen = random.Random(seed)
    torch.manual_seed(seed)
    dtype = chosen.choice([torch.float32, torch.float64])
    batch, size = chosen.choice([1, 2, 7, 16, 33]), (chosen.randint(2, 9), chosen.randint(2, 9))
    channels, nodes, stride = chosen.randint(1, 9), chosen.randint(1, 40), chosen.choice([1, 2])
    norm = chosen.choice([nn.BatchNorm2d, nn.InstanceNorm2d])
    images = torch.randn(batch, channels, *size, dtype=dtype, requires_grad=True)
    given = images.permute(1, 2, 3, 0).contiguous().permute(3, 0, 1, 2) if chosen.random() < 0.3 else images
    planes = enter(given)
    out = ((size[0] - 1) // stride + 1, (size[1] - 1) // stride + 1)
    reached = chosen.choice(list(Reached))
    sources = Sources(planes.tape, out, channels + nodes, lambda: reached)
    first = norm(channels, affine=True).to(dtype).train(chosen.random() < 0.8)
    sources.grow(planes, chosen.choice([None, first]), torch.randn(channels, 1, 3, 3, dtype=dtype), stride)
    weight = sparse_matrix(nodes, channels, chosen.random(), dtype).requires_grad_()
    sources.grow(sources.sum(weight), None, torch.randn(nodes, 1, 3, 3, dtype=dtype))
    weight = sparse_matrix(3, channels + nodes, chosen.random(), dtype).requires_grad_()
    top, left = chosen.randrange(out[0]), chosen.randrange(out[1])
    window = top, chosen.randint(top + 1, out[0]), left, chosen.randint(left + 1, out[1])
    result = sources.sum(weight, window=window if chosen.random() < 0.5 else None)
    out = result.size
    if batch * out[0] * out[1] > batch:
        result = normalized(result, norm(3, affine=True).to(dtype), relu=chosen.random() < 0.5)
    rounded = dtype == torch.float32 and chosen.random() < 0.5
    with mock.patch("models.native.nodes.rounding_pays", return_value=rounded):
        leave(result).square().sum().backward()
    assert images.grad is not None
    assert images.grad.isfinite().all()
    numbers = torch.randn(chosen.randint(1, 10_000), dtype=dtype)
    kept = chosen.randint(1, len(numbers))
    mask = keep_largest(numbers, kept, chosen.uniform(0, 2), chosen.uniform(1, 4))
    assert mask is None or int(mask.sum()) == kept


def test_random_shapes_run():
    for seed in range(40):
        run_everything(seed)


@pytest.mark.slow
def test_under_address_and_undefined_behaviour_sanitizers():
    assert_clean(UNDER_SANITIZERS)
