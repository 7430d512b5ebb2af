"""The dense gradient of edges where only some rows matter."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from benchmarks import plain_networks
from benchmarks.compared_networks import published_wiring
from genutil.system.arithmetic import matmul_precision
from models.native import nodes, products, training
from models.native.products import product_over_planes, rounding_pays
from models.wirings.graph import graphs
from tests.models.networks.two_forms import NETWORKS, batch_of, build, furthest, step


def planes(rows: int, places: int, images: int, dtype: torch.dtype, still: Tensor | None = None) -> Tensor:
    """Random planes whose rows lie apart; those that are still are the same for every image."""
    values = torch.randn(rows, places, images, dtype=dtype)
    if still is not None:
        values[still] = values[still][:, :, :1]
    memory = torch.full((rows, places * images + 5), float("nan"), dtype=dtype)
    memory[:, : places * images] = values.flatten(1)
    return memory[:, : places * images]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("nodes", "sources", "places", "images"), [(9, 7, 4, 3), (1, 1, 1, 1), (40, 33, 25, 17)])
@pytest.mark.parametrize(("live", "moving"), [(0.5, 0.5), (0.0, 0.5), (0.5, 0.0), (1.0, 0.3), (1.0, 1.0)])
def test_the_product_of_the_rows_that_matter_is_the_product_of_all(
    monkeypatch: pytest.MonkeyPatch,
    dtype: torch.dtype,
    nodes: int,
    sources: int,
    places: int,
    images: int,
    live: float,
    moving: float,
) -> None:
    monkeypatch.setattr(products, "COPIED_BYTES", 1000)  # several runs of positions
    torch.manual_seed(0)
    still = torch.rand(sources) >= moving
    gradient, given = planes(nodes, places, images, dtype), planes(sources, places, images, dtype, still)
    gradient[torch.rand(nodes) >= live] = 0
    found = product_over_planes(gradient, given, images, still)
    expected = gradient.double() @ given.double().t()
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5
    assert (found - expected).abs().max() <= tolerance * max(1.0, float(expected.abs().max()))


@pytest.mark.parametrize(("live", "moving"), [(1.0, 1.0), (0.5, 0.5), (0.0, 0.5), (0.5, 0.0)])
def test_a_product_of_rounded_numbers_is_near_and_sums_in_full(live: float, moving: float) -> None:
    torch.manual_seed(0)
    nodes, sources, places, images = 40, 33, 50, 64
    still = torch.rand(sources) >= moving
    gradient = planes(nodes, places, images, torch.float32)
    given = planes(sources, places, images, torch.float32, still)
    gradient[torch.rand(nodes) >= live] = 0
    found = product_over_planes(gradient, given, images, still, given.to(torch.bfloat16))
    rounded = given.to(torch.bfloat16).double()
    rounded[still] = given[still].double()
    expected = gradient.to(torch.bfloat16).double() @ rounded.t()
    expected[:, still] = gradient.double() @ rounded[still].t()
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=2**-8, atol=1e-3)  # the sum is rounded once


@pytest.mark.parametrize("name", NETWORKS)
def test_medium_precision_rounds_the_gradients_of_edges_alone(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(products, "_multiplies_vectors", lambda: True)
    network = build(name).float()
    images, labels = batch_of(8)
    found = {}
    for precision in ("highest", "medium"):
        with matmul_precision(precision):
            found[precision] = step(network, images.float(), labels)
    torch.testing.assert_close(found["medium"][0], found["highest"][0], rtol=1e-3, atol=0)  # torch's layers round, too
    rounded = 0
    for key, exact in found["highest"][1].items():
        difference = (found["medium"][1][key] - exact).norm() / exact.norm()
        assert difference < 2e-2
        rounded += "graph.weight" in key and difference > 1e-4
    assert rounded


def test_numbers_are_rounded_where_it_was_allowed_and_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "_multiplies_vectors", lambda: True)
    assert not rounding_pays(torch.float32)
    with matmul_precision("medium"):
        assert rounding_pays(torch.float32)
        assert not rounding_pays(torch.float64)
        monkeypatch.setattr(products, "_multiplies_vectors", lambda: False)
        assert not rounding_pays(torch.float32)


def test_a_row_is_zero_only_where_all_of_it_is() -> None:
    rows = torch.zeros(5, 200)
    rows[1, 0] = rows[2, 130] = rows[3, 199] = 1e-30
    rows[4, 70] = float("nan")
    assert training.zero_rows(rows).tolist() == [True, False, False, False, False]
    assert training.zero_rows(rows[:, :199]).tolist() == [True, False, False, True, False]
    assert training.zero_rows(-torch.zeros(2, 3)).tolist() == [True, True]


def test_few_products_are_made_where_half_of_the_nodes_are_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    multiplied = []
    copies = training.copy_rows

    def counted(given: Tensor, rows: Tensor, images: int | None = None) -> tuple[Tensor, Tensor]:
        multiplied.append(len(rows) / len(given))
        return copies(given, rows, images)

    monkeypatch.setattr(products, "copy_rows", counted)
    network = published_wiring("x225", 10, 32).train()
    network(torch.randn(2, 3, 32, 32)).sum().backward()
    assert multiplied
    assert sum(multiplied) / len(multiplied) < 0.6


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How often products were made at edges, and of whole matrices."""
    made = {"at_edges": 0, "whole": 0}

    def counted(name: str, call: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def counting(*arguments: object) -> Tensor:
            made[name] += 1
            return call(*arguments)

        return counting

    monkeypatch.setattr(training, "product_at_edges", counted("at_edges", training.product_at_edges))
    monkeypatch.setattr(nodes, "product_over_planes", counted("whole", nodes.product_over_planes))
    return made


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize("training", [True, False])
def test_gradients_are_made_at_the_edges_near_the_threshold(
    made: dict[str, int], name: str, zero: bool, training: bool
) -> None:
    network = build(name, "dnw_near", prune_rate=0.95, near=0.5, every=2).train(training)
    images, labels = batch_of(8)
    for whole in (True, False):
        made.update(at_edges=0, whole=0)
        for _, graph in graphs(network):
            graph.wiring.reaches_idle = whole
            if zero:
                graph.weight.data[graph.acting().nonzero()[0]] = 0
        loss, found = step(network, images, labels)
        assert bool(made["whole"]) == whole
        assert bool(made["at_edges"]) != whole
        expected = step(network, images, labels, native=False)
        torch.testing.assert_close(loss, expected[0], rtol=1e-10, atol=0)
        assert furthest(found, expected[1]) < 1e-10


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("wiring", ["random", "dnw_no_update", "set", "rigl"])
@pytest.mark.parametrize("zero", [False, True])
def test_gradients_are_made_at_the_acting_edges_alone_where_no_others_count(
    made: dict[str, int], name: str, wiring: str, zero: bool
) -> None:
    """An acting edge of weight 0 is not among those that the kernels see: then all are made."""
    network = build(name, wiring, prune_rate=0.9)
    for _, graph in graphs(network):
        graph.wiring.reaches_idle = False  # as it is with RigL in most of its steps
        if zero:
            graph.weight.data[graph.acting().nonzero()[0]] = 0
    images, labels = batch_of(8)
    loss, found = step(network, images, labels)
    if wiring != "dnw_no_update":  # which lets an edge of weight 0 no longer act
        assert bool(made["whole"]) == zero
        assert bool(made["at_edges"]) != zero
    expected = step(network, images, labels, native=False)
    torch.testing.assert_close(loss, expected[0], rtol=1e-10, atol=0)
    assert furthest(found, expected[1]) < 1e-10


def test_gradients_with_dead_nodes_are_those_of_the_plain_network() -> None:
    network = published_wiring("x225", 10, 32).train().double()
    plain = plain_networks.PlainMobileNet(published_wiring("x225", 10, 32).train().double())
    torch.manual_seed(0)
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    labels = torch.tensor([1, 7])
    for form in (network, plain):
        nn.functional.cross_entropy(form(images), labels).backward()
    layouts = {f"{name}.weight": graph.layout for name, graph in graphs(network)}
    theirs = dict(plain.named_parameters())
    for name, parameter in network.named_parameters():
        expected = theirs[name].grad
        assert parameter.grad is not None
        assert expected is not None
        if name in layouts:
            expected = layouts[name].from_matrix(expected[:, :, 0, 0])
        scale = max(float(expected.abs().max()), 1e-3)
        assert (parameter.grad - expected).abs().max() <= 1e-10 * scale, name
