"""Each wiring is its rule: which edges act, and which get a gradient."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from models.networks.mobilenetv1_like import stage_layout
from models.networks.neural_graph import static_layout
from models.wirings.rules import DNW, WIRINGS, Block, EdgeLayout, Graph, fix_graph, make_wiring
from models.wirings.selection import keep_largest

LAYOUT = stage_layout(4, 8, 3)


def graph(name: str, prune_rate: float = 0.8, layout: EdgeLayout = LAYOUT, **options: float) -> Graph:
    torch.manual_seed(0)
    return Graph(layout, make_wiring(name, layout, prune_rate, **options))


def effective(g: Graph) -> torch.Tensor:
    return torch.cat([part.reshape(-1) for part in g()])


def test_the_layout_of_a_stage_holds_what_can_act():
    possible = LAYOUT.to_matrix(torch.ones(LAYOUT.possible))
    assert possible.shape == (24, 20)
    for row in range(24):
        assert possible[row].tolist() == [1.0] * (4 + row // 8 * 8) + [0.0] * (16 - row // 8 * 8)


def test_the_static_layout_holds_264960_edges_of_640000():
    layout = static_layout(800, 32, 100, 5)
    assert layout.possible == 264_960
    idle = [(0, 32, 0, 32), (0, 224, 32, 224), (0, 416, 224, 416), (0, 608, 416, 608), (0, 700, 608, 800)]
    matrix = layout.to_matrix(torch.ones(layout.possible))
    for row0, row1, column0, column1 in idle:
        assert not matrix[row0:row1, column0:column1].any()
    assert int(matrix.sum()) == 640_000 - sum((b - a) * (d - c) for a, b, c, d in idle)


@pytest.mark.parametrize("layout", [LAYOUT, static_layout(40, 8, 6, 5), EdgeLayout.full(3, 5)])
def test_layouts_round_trip(layout):
    edges = torch.arange(1.0, layout.possible + 1)
    assert layout.from_matrix(layout.to_matrix(edges)).equal(edges)
    for part, block in zip(layout.split(edges), layout.blocks, strict=True):
        rows, columns = slice(block.row0, block.row1), slice(block.column0, block.column1)
        assert part.equal(layout.to_matrix(edges)[rows, columns])


def test_the_budget_counts_the_whole_matrix_but_never_exceeds_what_can_act():
    assert LAYOUT.kept(0.8) == 480 - int(0.8 * 480)
    assert LAYOUT.kept(0.1) == LAYOUT.possible == 288


def test_complete_uses_every_edge():
    g = graph("complete")
    assert effective(g).equal(g.weight)
    assert g.acting().all()


def test_dnw_uses_the_strongest_edges_and_gives_every_edge_its_gradient():
    g = graph("dnw")
    factors = torch.randn(LAYOUT.possible)
    out = effective(g)
    (out * factors).sum().backward()
    kept = keep_largest(g.weight.detach(), 96)
    assert out.equal(torch.where(kept, g.weight, 0))
    assert g.weight.grad.equal(factors)


def test_an_edge_that_grows_swaps_in():
    g = graph("dnw")
    before = g.acting()
    idle = int((~before).nonzero()[0])
    with torch.no_grad():
        g.weight[idle] = 5.0
    after = g.acting()
    assert after[idle]
    assert int(after.sum()) == int(before.sum()) == 96


@pytest.mark.parametrize("name", ["random", "dnw_no_update", "fine_tune"])
def test_without_update_only_acting_edges_get_a_gradient(name):
    g = graph(name)
    effective(g).sum().backward()
    assert g.weight.grad.equal(g.acting().float())
    assert int(g.acting().sum()) == 96


def test_random_is_fixed_and_drawn_from_the_seed():
    first, again = graph("random"), graph("random")
    assert first.wiring.mask.equal(again.wiring.mask)
    torch.manual_seed(1)
    other = Graph(LAYOUT, make_wiring("random", LAYOUT, 0.8))
    assert not other.wiring.mask.equal(first.wiring.mask)
    with torch.no_grad():
        first.weight.mul_(torch.rand(LAYOUT.possible))
    assert first.acting().equal(again.wiring.mask)


def test_random_in_the_static_network_keeps_32000_edges_that_act():
    g = graph("random", 0.95, static_layout(800, 32, 100, 5))
    assert int(g.acting().sum()) == 32_000
    assert int(g.matrix().any(dim=1).sum()) > 740  # rows 0..31 have no edge that could act


def test_a_stored_mask_of_dnw_no_update_is_honoured():
    g = graph("dnw_no_update")
    strongest = int(g.weight.abs().argmax())
    g.wiring.mask[strongest] = False
    g.train()
    assert not g.acting()[strongest]
    assert effective(g)[strongest] == 0


def test_fine_tune_takes_the_graph_of_trained_weights_and_keeps_it():
    g = graph("fine_tune")
    trained = torch.randn(LAYOUT.possible)
    with torch.no_grad():
        g.weight.copy_(trained)
    fix_graph(g)
    with torch.no_grad():
        g.weight.copy_(torch.randn(LAYOUT.possible))
    assert g.acting().equal(keep_largest(trained, 96))


def test_targeted_dropout_drops_weak_edges_with_probability_rho_and_keeps_signs():
    g = graph("td", 0.5, EdgeLayout.full(100, 100), rho=0.3)
    strong = keep_largest(g.weight.detach(), 5000)
    out = effective(g).detach()
    assert out[strong].equal(g.weight.detach()[strong])
    assert abs(float((out[~strong] == 0).float().mean()) - 0.3) < 0.03
    assert (out < 0).any()
    g.eval()
    assert effective(g).equal(torch.where(strong, g.weight, 0))


def test_rho_gamma_is_the_prune_rate_of_the_graph():
    assert make_wiring("td", LAYOUT, 0.75, rho="gamma").rho == 0.75


def test_regular_targeted_dropout_chooses_in_each_row():
    g = graph("reg_td", 0.6)
    g.eval()
    kept_a_row = 20 - int(0.6 * 20)
    inputs = (g.matrix() != 0).sum(dim=1)
    assert inputs.tolist() == [4] * 8 + [kept_a_row] * 16  # the first group has only four inputs
    assert g.wiring.kept == int(inputs.sum())
    full = LAYOUT.to_matrix(g.weight.detach())
    assert g.matrix()[20].equal(torch.where(keep_largest(full[20], kept_a_row), full[20], 0))


def test_reg_td_trains():
    g = graph("reg_td", 0.6)
    effective(g).square().sum().backward()
    assert g.weight.grad.isfinite().all()


@pytest.mark.parametrize("name", WIRINGS)
def test_every_wiring_survives_its_state_dict(name):
    first = graph(name)
    torch.manual_seed(7)
    second = Graph(LAYOUT, make_wiring(name, LAYOUT, 0.8))
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    assert second.eval().matrix().equal(first.eval().matrix())


def test_fewer_active_edges_are_evaluated_but_training_takes_the_whole_budget():
    g = graph("dnw")
    state = copy.deepcopy(g.state_dict())
    state["wiring._extra_state"] = {"active": 50}
    g.load_state_dict(state)
    g.eval()
    assert int(g.acting().sum()) == 50
    assert g.state_dict()["wiring._extra_state"] == {"active": 50}
    g.train()
    g.eval()
    assert int(g.acting().sum()) == 96


def test_evaluation_chooses_once_and_again_after_the_weights_change(monkeypatch):
    g = graph("dnw").eval()
    calls = []
    monkeypatch.setattr("models.wirings.learned.keep_largest", lambda w, k: calls.append(k) or keep_largest(w, k))
    with torch.no_grad():
        first, again = effective(g), effective(g)
    assert first.equal(again)
    assert len(calls) == 1
    with torch.no_grad():
        g.weight.neg_().add_(0.1)
    assert effective(g).equal(torch.where(keep_largest(g.weight.detach(), 96), g.weight, 0))
    assert len(calls) == 2


def test_a_wiring_serves_as_a_parametrization_of_any_layer():
    torch.manual_seed(0)
    linear = nn.Linear(10, 6, bias=False)
    layout = EdgeLayout(1, 60, (Block(0, 1, 0, 60),))

    class Flat(DNW):
        def forward(self, weight):
            return super().forward(weight.reshape(-1)).view_as(weight)

    parametrize.register_parametrization(linear, "weight", Flat(layout, 0.9))
    linear(torch.ones(1, 10)).sum().backward()
    assert int(linear.weight.count_nonzero()) == 6
    assert linear.parametrizations["weight"].original.grad.equal(torch.ones(6, 10))


def test_mistakes_are_told_in_a_sentence():
    with pytest.raises(ValueError, match="There is no wiring 'dwn'; there are complete, random, dnw"):
        make_wiring("dwn", LAYOUT, 0.5)
    with pytest.raises(ValueError, match="at least 0 and below 1, not 1"):
        make_wiring("dnw", LAYOUT, 1.0)
