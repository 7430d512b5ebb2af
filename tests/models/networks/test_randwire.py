"""Randomly wired networks: published sizes, regimes, the two ways to run, learned edges."""

from __future__ import annotations

import statistics
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from models.networks.random_graphs import StageGraph, complete, draw_stages
from models.networks.randwire import RandWire, learned_layout
from models.networks.randwire_regimes import REGIMES, make_regime, random_stages
from models.networks.shared_states import dropout, keep_mask
from models.wirings.registry import make_wiring


def network(regime, seed=0, graph=("ws", (32, 4, 0.75)), classes=10, in_channels=3, wiring=None, **changes):
    made = make_regime(regime, **changes)
    halved = [made.halve_first and stage == 0 for stage in range(random_stages(made))]
    return RandWire(draw_stages(*graph, seed, halved), made, classes, in_channels, wiring)


def cost(net, size):
    """Parameters and multiply-adds, counted layer by layer on a device without data."""
    total = 0

    def count(module, _, output):
        nonlocal total
        total += output.numel() * module.weight[0].numel()

    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(count)
    net.eval()
    with torch.no_grad():
        net(torch.empty(1, 3, size, size, device="meta"))
    return sum(p.numel() for p in net.parameters()), total


@pytest.mark.parametrize(
    ("regime", "channels", "parameters", "multiply_adds"),
    [("small", 78, 5.6e6, 583e6), ("regular", 109, 31.9e6, 4.0e9), ("regular", 154, 61.5e6, 7.9e9)],
)
def test_published_sizes_on_imagenet(regime, channels, parameters, multiply_adds):
    costs = []
    for seed in range(5):
        with torch.device("meta"):
            net = network(regime, seed, classes=1000, channels=channels)
        costs.append(cost(net, 224))
    assert statistics.fmean(c[0] for c in costs) == pytest.approx(parameters, rel=0.03)
    assert statistics.fmean(c[1] for c in costs) == pytest.approx(multiply_adds, rel=0.03)


@pytest.mark.parametrize(
    ("regime", "channels", "classes", "millions"),
    [
        ("tensorflow_small_cifar", 78, 10, 1.2),
        ("tensorflow_regular_cifar", 109, 100, 8.2),
        ("tensorflow_regular_cifar", 78, 100, 4.4),
    ],
)
def test_published_sizes_on_cifar(regime, channels, classes, millions):
    with torch.device("meta"):
        counts = [
            sum(p.numel() for p in network(regime, s, classes=classes, channels=channels).parameters())
            for s in range(5)
        ]
    assert statistics.fmean(counts) / 1e6 == pytest.approx(millions, abs=0.06)


@pytest.mark.parametrize("graph", [("ws", (10, 4, 0.75)), ("er", (10, 0.4)), ("ba", (10, 2))], ids=lambda g: g[0])
@pytest.mark.parametrize("regime", REGIMES)
def test_every_regime_trains(regime, graph):
    channels = 1 if regime == "mnist" else 3
    net = network(regime, graph=graph, channels=8, in_channels=channels)
    side = 64 if net.regime.init_subsample else 28
    y = net(torch.randn(2, channels, side, side))
    assert y.shape == (2, 10)
    y.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    assert sum(float(p.grad.abs().sum()) > 0 for p in net.parameters()) > 0.8 * len(list(net.parameters()))


@pytest.mark.parametrize(
    ("regime", "subsample", "sides"),
    [
        ("tensorflow_small_cifar", None, [32, 32, 16, 8]),
        ("tensorflow_small_cifar", True, [16, 16, 8, 4]),
        ("tensorflow_small", None, [32, 16, 8, 4]),
        ("tensorflow_regular_cifar", None, [32, 16, 8, 4]),
        ("mnist", None, [32, 32, 16, 8]),
    ],
)
def test_strides(regime, subsample, sides):
    net = network(regime, graph=("ws", (6, 2, 0.5)), channels=4, init_subsample=subsample, stages=4)
    seen = []
    for module in [net.conv1, net.conv2, *net.stages]:
        if len(list(module.children())):
            module.register_forward_hook(lambda _m, _i, y: seen.append(y.shape[-1]))
    net(torch.randn(2, 3, 32, 32))
    assert seen == sides


def test_options_of_the_regimes():
    assert len(network("tensorflow_small").conv1) == 1, "no BN behind the stem at stride 1"
    assert len(network("tensorflow_small", init_subsample=True).conv1) == 2
    assert network("regular", stages=3).graphs[0].nodes == 16
    assert network("small", separable=True).conv1[0].pointwise.bias is None
    stage = network("mnist", graph=("ws", (8, 4, 0.75)), channels=8).stages[1]
    widths = [node.norm.num_features for node in stage.nodes]
    assert {v for v, width in enumerate(widths) if width == 16} == set(stage.graph.outputs)
    with pytest.raises(ValueError, match=r"no regime 'large'; there are small, regular, tensorflow_small"):
        make_regime("large")
    with pytest.raises(ValueError, match="no random stage"):
        network("small", stages=2)
    with pytest.raises(ValueError, match=r"^channel_count must be at least 2, .*, not 1\.$"):
        make_regime("small", channels=1)
    with pytest.raises(ValueError, match="3 random stages and 1 graphs"):
        RandWire([complete(3)], make_regime("small"), 10)


def by_hand(stage, x):
    """A stage from its definition, in node order."""
    graph, weights = stage.graph, iter(stage.edge_weights())
    pairs = graph.edges if stage.regime.node_inputs == "predecessors" else graph.closure
    feeding = {v: sorted(u for u, w in pairs if w == v) for v in range(graph.nodes)}
    states = {}
    for node in range(graph.nodes):
        total = sum(states[u] * next(weights) for u in feeding[node]) if feeding[node] else x
        states[node] = stage.nodes[node](F.relu(total))
    ends = torch.stack([states[node] for node in graph.outputs])
    return ends.mean(0) if stage.regime.stage_output == "mean" else ends.sum(0)


@pytest.mark.parametrize("node_inputs", ["predecessors", "ancestors"])
@pytest.mark.parametrize("stage_output", ["mean", "sum"])
def test_a_stage_is_what_its_graph_says(node_inputs, stage_output):
    net = network("tensorflow_small_cifar", graph=("er", (9, 0.4)), channels=4, dropout=0.0, node_inputs=node_inputs,
                  stage_output=stage_output).double()  # fmt: skip
    stage = net.stages[0]
    nn.init.normal_(stage.edge_weight)
    x = torch.randn(3, 4, 8, 8, dtype=torch.double)
    for execution in ("shared", "node"):
        stage.execution = execution
        torch.testing.assert_close(stage(x), by_hand(stage, x))


def test_a_single_input_is_not_weighted():
    chain = StageGraph(4, ((0, 1), (1, 2), (0, 3), (2, 3)))
    net = RandWire([chain], make_regime("small", stages=3, channels=4), 10)
    assert net.stages[0].edge_weights().tolist() == [1, 1, 0.5, 0.5]
    assert net.stages[0].edge_weight.shape == (2,)


def gradients(net, x, execution):
    for stage in net.stages:
        stage.execution = execution
    net.zero_grad()
    torch.manual_seed(3)
    x = x.clone().requires_grad_()
    y = net(x)
    y.square().sum().backward()
    return [y.detach(), x.grad, *(p.grad.clone() for p in net.parameters())]


@pytest.mark.parametrize(
    ("regime", "graph", "wiring", "changes"),
    [
        ("tensorflow_small_cifar", ("ws", (16, 4, 0.75)), None, {}),
        ("tensorflow_small_cifar", ("ws", (16, 4, 0.75)), None, {"node_inputs": "predecessors", "drop_edge": 0.3}),
        ("tensorflow_small_cifar", ("ba", (16, 5)), None, {"drop_edge": 0.3}),
        ("small", ("er", (2, 0.5)), None, {}),
        ("small", ("er", (1, 0.5)), None, {}),
        ("regular", ("ws", (16, 4, 0.75)), None, {"stages": 3}),
        ("mnist", ("ws", (16, 4, 0.75)), None, {}),
        ("small", ("complete", (12, 3, 3)), partial(make_wiring, "dnw", prune_rate=0.8), {"dropout": 0.1}),
        ("small", ("complete", (12, 3, 3)), partial(make_wiring, "td", prune_rate=0.8, rho=0.5), {}),
    ],
)
def test_shared_buffer_gives_the_outputs_and_gradients_of_node_by_node(regime, graph, wiring, changes):
    net = network(regime, graph=graph, wiring=wiring, channels=6, **changes).double()
    x = torch.randn(5, 3, 20, 20, dtype=torch.double)
    plain, shared = gradients(net, x, "node"), gradients(net, x, "shared")
    largest = max(float(g.abs().max()) for g in plain)
    for a, b in zip(plain, shared, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-11 * largest)


def test_gradients_node_by_node_are_those_of_finite_differences():
    net = network("tensorflow_small_cifar", graph=("ws", (6, 4, 0.5)), channels=2, dropout=0.0).double()
    stage = net.stages[0]
    stage.execution = "node"
    nn.init.normal_(stage.edge_weight)
    x = torch.randn(2, 2, 4, 4, dtype=torch.double, requires_grad=True)
    edge_weight = stage.edge_weight.detach().requires_grad_()

    def run(x, weight):
        return torch.func.functional_call(stage, {"edge_weight": weight}, (x,))

    assert torch.autograd.gradcheck(run, (x, edge_weight), eps=1e-6, atol=1e-5)


def test_frozen_parts_and_a_second_backward():
    net = network("small", graph=("ws", (8, 4, 0.75)), stages=4, channels=4)
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(name.startswith(("stages.1", "linear")))
    net(torch.randn(2, 3, 32, 32)).sum().backward()
    assert net.stages[1].edge_weight.grad.abs().sum() > 0
    assert net.stages[0].edge_weight.grad is None
    y = net(torch.randn(2, 3, 32, 32)).sum()
    y.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="one backward pass"):
        y.backward()


def test_mixed_precision_runs():
    net = network("small", graph=("ws", (8, 4, 0.75)), stages=3, channels=4)
    with torch.autocast("cpu", torch.bfloat16):
        y = net(torch.randn(2, 3, 32, 32))
    y.float().sum().backward()
    assert all(p.grad.isfinite().all() for p in net.parameters())


def test_drop_edge_acts_in_training_only_and_for_each_image():
    net = network("small", graph=("ws", (8, 4, 0.75)), stages=3, channels=4, drop_edge=0.5)
    matrix = net.stages[0]._weight_matrix(64)
    assert matrix.shape[0] == 64
    whole = net.stages[0].eval()._weight_matrix(64)
    assert whole.shape[0] == 1
    present = whole[0] > 0
    alone = present & (present.sum(1, keepdim=True) == 1)
    assert alone.any()
    assert not matrix[:, ~present].any()
    assert torch.equal(matrix[:, alone], whole[:, alone].expand(64, -1)), "a node's only input is never dropped"
    dropped = matrix[:, present & ~alone] / whole[:, present & ~alone]
    assert set(dropped.unique().tolist()) == {0, 2}
    assert float(dropped.detach().mean()) == pytest.approx(1, abs=0.16)
    x = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(net.eval()(x), net.eval()(x))


def test_dropout_keeps_the_mean_and_its_rate():
    torch.manual_seed(0)
    for p in (0.1, 0.2, 0.5):
        x = torch.ones(10, 7, 61, 63).contiguous(memory_format=torch.channels_last).requires_grad_()
        y = dropout(x, p)
        assert float((y == 0).float().mean()) == pytest.approx(p, abs=0.003)
        assert y.unique().tolist() == pytest.approx([0, 1 / (1 - p)])
        y.sum().backward()
        assert torch.equal(x.grad, y)
    mask = keep_mask(torch.empty(3, 5, 7, 11), 0.5)
    assert mask.shape == (3, 5, 7, 11)
    assert not torch.equal(mask, keep_mask(torch.empty(3, 5, 7, 11), 0.5))


def test_evaluation_equals_the_shared_form_and_frees_what_is_not_needed():
    net = network("tensorflow_small_cifar", graph=("ws", (8, 4, 0.75)), channels=4).eval()
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        alone = net(x)
    torch.testing.assert_close(net(x), alone)


@pytest.mark.parametrize("prune_rate", [0.7, 0.97])
def test_evaluation_takes_acting_edges_alone(prune_rate, monkeypatch):
    net = network(
        "small",
        graph=("complete", (12, 3, 3)),
        wiring=partial(make_wiring, "dnw", prune_rate=prune_rate),
        stages=3,
        channels=4,
    ).eval()
    x = torch.randn(2, 3, 32, 32)
    expected = net(x).detach()
    products = []
    real = torch.Tensor.__mul__
    monkeypatch.setattr(torch.Tensor, "__mul__", lambda a, b: products.append(a) or real(a, b))
    with torch.no_grad():
        torch.testing.assert_close(net(x), expected)
    stage = net.stages[0]
    idle = sum(not row.any() for row in stage._weight_matrix(1)[0, len(stage.graph.inputs) :])
    assert sum(product.dim() == 4 for product in products) == stage.wired.wiring.kept + idle


def test_weights_of_another_graph_are_refused():
    one, other = (network("small", seed, graph=("ws", (8, 4, 0.75)), stages=3, channels=4) for seed in (0, 1))
    with pytest.raises(ValueError, match=r"stages\.0 belong to another graph"):
        other.load_state_dict(one.state_dict())
    same = network("small", 0, graph=("ws", (8, 4, 0.75)), stages=3, channels=4)
    same.load_state_dict(one.state_dict())
    torch.testing.assert_close(same.eval()(torch.ones(1, 3, 32, 32)), one.eval()(torch.ones(1, 3, 32, 32)))


def test_learned_edges_keep_their_budget_and_swap():
    net = network(
        "small",
        graph=("complete", (32, 6, 5)),
        stages=3,
        channels=4,
        wiring=partial(make_wiring, "dnw", prune_rate=0.9375),
    )
    wired = net.stages[0].wired
    assert wired.wiring.kept == 64
    assert int((net.stages[0]._weight_matrix(1) != 0).sum()) == 64
    before = wired.acting().clone()
    optimizer = torch.optim.SGD(net.parameters(), 0.5, 0.9)
    for _ in range(4):
        optimizer.zero_grad()
        F.cross_entropy(net(torch.randn(4, 3, 32, 32)), torch.arange(4)).backward()
        optimizer.step()
    assert int((wired.weight.grad != 0).sum()) > 64, "edges that do not act get a gradient too"
    after = wired.acting()
    assert int(after.sum()) == 64
    assert not torch.equal(before, after)


def test_learned_edges_need_a_complete_graph_and_predecessors():
    assert learned_layout(complete(32)).possible == 496
    with pytest.raises(ValueError, match="complete graph"):
        network("small", stages=3, wiring=partial(make_wiring, "dnw", prune_rate=0.5))
    with pytest.raises(ValueError, match="1 node has none"):
        network("small", stages=3, graph=("complete", (1,)), wiring=partial(make_wiring, "dnw", prune_rate=0.5))
    with pytest.raises(ValueError, match="ancestors"):
        network("tensorflow_small", graph=("complete", (8,)), wiring=partial(make_wiring, "dnw", prune_rate=0.5))


def test_evaluation_exports(tmp_path):
    net = network("small", graph=("ws", (6, 2, 0.5)), stages=3, channels=4).eval()
    x = torch.randn(2, 3, 32, 32)
    traced = torch.export.export(net, (x,)).module()
    with torch.no_grad():
        torch.testing.assert_close(traced(x), net(x))
