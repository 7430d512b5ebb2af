"""Any convolution or linear layer of any network under any wiring rule.

`wire` registers a wiring as a parametrization (`torch.nn.utils.parametrize`) of the layers' weights, so that
the network's own code stays as it is. An edge is one entry of a weight: row = output channel, column = input
channel and place in the kernel.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrize import ParametrizationList

from models.wirings.budgets import BUDGETS
from models.wirings.graph import Graph, LayerGraph, WiredWeight, graphs
from models.wirings.layout import EdgeLayout
from models.wirings.registry import WIRINGS, make_wiring
from models.wirings.scheduled import Scheduled
from models.wirings.selection import keep_largest

Layer = nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear
"""What can be wired."""


class GlobalBudget:
    """One budget for all wired layers of a network: the entries of largest score act, wherever they stand.

    Args:
        layers: that share it.
        kept: edges that act in all of them together.
    """

    def __init__(self, layers: Sequence[LayerGraph], kept: int) -> None:
        self.layers = layers
        self.kept = kept
        self._shares: tuple[list[tuple[int, int]], list[int]] | None = None

    @property
    def possible(self) -> int:
        return sum(layer.layout.possible for layer in self.layers)

    def share(self, index: int) -> int:
        """Edges of one layer now; all are chosen anew when any weight has changed."""
        parameters = [layer.parameter for layer in self.layers]
        state = [(parameter.data_ptr(), parameter._version) for parameter in parameters]
        if self._shares is None or self._shares[0] != state:
            self._shares = state, self.shares(self.kept)
        return self._shares[1][index]

    @torch.no_grad()
    def shares(self, kept: int) -> list[int]:
        """Edges of every layer when so many act in all of them together."""
        scores = [layer.wiring.score(layer.parameter.reshape(-1)) for layer in self.layers]
        mask = keep_largest(torch.cat([score.to(scores[0].device) for score in scores]), kept)
        return [int(part.count_nonzero()) for part in mask.split([len(score) for score in scores])]


@dataclass(frozen=True)
class Share:
    """One layer's part of a global budget: called, it says how many edges that is now."""

    budget: GlobalBudget
    index: int

    def __call__(self) -> int:
        return self.budget.share(self.index)


def wire(
    network: nn.Module,
    rule: str,
    prune_rate: float,
    *,
    skip: Collection[str] = (),
    budget: str = "uniform",
    **options: Any,
) -> nn.Module:
    """Wire the convolutions and linear layers of a network; biases and norms stay dense.

    Args:
        network: changed in place, and returned.
        rule: name of the wiring, see models.wirings.registry.WIRINGS.
        prune_rate: share of the edges removed.
        skip: names of layers to leave dense, as `network.named_modules` gives them; * and ? match as in file names.
        budget: how the kept edges are spread, see models.wirings.budgets.BUDGETS: uniform, erk or global, which keeps
            the edges of largest score in all layers together and follows them as the weights change.
        options: of the rule, as interval or fraction; their defaults hold where they are not given.

    Raises:
        ValueError: an unknown rule or budget; an option that the rule does not take, or a value that it cannot have; a
            name to skip that matches no layer; a layer that is wired already; nothing left to wire.
    """
    sharing = BUDGETS.choose(budget)
    if sharing.joint and not WIRINGS.choose(rule).wiring.any_count:
        raise ValueError(f"{rule} keeps as many edges in each row, which a {budget} budget does not allow.")
    layers = _layers(network, skip)
    layouts = [EdgeLayout.full(layer.weight.shape[0], layer.weight[0].numel()) for layer in layers]
    wirings = [make_wiring(rule, layout, prune_rate, **options) for layout in layouts]
    counts = sharing.counts([tuple(layer.weight.shape) for layer in layers], prune_rate)
    for layer, wiring in zip(layers, wirings, strict=True):
        wiring.to(layer.weight.device)
        parametrize.register_parametrization(layer, "weight", WiredWeight(wiring))
    wired = [LayerGraph(_parametrized(layer)) for layer in layers]
    if sharing.joint:
        joint = GlobalBudget(wired, sum(counts))
        counts = joint.shares(joint.kept)
        for index, graph in enumerate(wired):
            graph.wired.share = Share(joint, index)
    for graph, count in zip(wired, counts, strict=True):
        if budget != "uniform":
            graph.wiring.allot(count)
        graph.wiring.start(graph.parameter.detach().reshape(-1))
    return network


def unwire(network: nn.Module) -> nn.Module:
    """Put the effective weights of evaluation in the place of wired ones, in place; what does not act is 0 then."""
    for module in list(network.modules()):
        if parametrize.is_parametrized(module, "weight") and isinstance(_parametrized(module)[0], WiredWeight):
            module.eval()
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)
    return network


def wired_state(state: Mapping[str, Any], network: nn.Module) -> dict[str, Any]:
    """A state dict for a network with wired layers from one of the same network without.

    The weights become the full weights; the wirings stay as they are in `network`. Where the state has wired layers
    already, it stays as it is.
    """
    own = network.state_dict()
    converted = dict(state)
    for name, graph in graphs(network):
        if isinstance(graph, LayerGraph) and name in state:
            layer = name.removesuffix(".weight").removesuffix("weight")
            prefix = f"{layer}.parametrizations.weight." if layer else "parametrizations.weight."
            converted |= {key: value for key, value in own.items() if key.startswith(prefix)}
            converted[f"{prefix}original"] = converted.pop(name)
    return converted


@torch.no_grad()
def update_wirings(network: nn.Module, optimizer: torch.optim.Optimizer, step: int, steps: int) -> None:
    """Let every wiring that follows a schedule change; for after each step of the optimizer, with its gradients.

    Args:
        network: with layers wired by `wire`, or with graphs of its own (models.wirings.graph.Graph).
        optimizer: of its parameters; what it keeps for an edge is set to 0 where the edge is grown.
        step, steps: the step just done, counted from 0, and how many the training has.
    """
    scheduled = [(graph, graph.wiring) for _, graph in graphs(network) if isinstance(graph.wiring, Scheduled)]
    due = [(graph, wiring) for graph, wiring in scheduled if wiring.due(step, steps)]
    for (graph, wiring), edges in zip(due, _edges(due, step, steps), strict=True):
        parameter = graph.parameter if isinstance(graph, LayerGraph) else graph.weight
        states = [value for value in optimizer.state.get(parameter, {}).values() if _is_alike(value, parameter)]
        tensors = [parameter.detach(), *states]
        weight, *flat_states = flat = [tensor.reshape(-1) for tensor in tensors]
        gradient = None if parameter.grad is None else parameter.grad.reshape(-1)
        wiring.change(weight, gradient, flat_states, edges, step, steps)
        for tensor, changed in zip(tensors, flat, strict=True):
            if changed.data_ptr() != tensor.data_ptr():
                tensor.copy_(changed.view(tensor.shape))
    for _, wiring in scheduled:
        wiring.prepare(step + 1, steps)


def _edges(due: Sequence[tuple[Graph | LayerGraph, Scheduled]], step: int, steps: int) -> list[int]:
    """How many edges of each graph may act after this step."""
    shares: dict[GlobalBudget, list[int]] = {}
    edges = []
    for graph, wiring in due:
        progress = wiring.progress(step, steps)
        share = graph.wired.share if isinstance(graph, LayerGraph) else None
        if not isinstance(share, Share):
            edges.append(_left(wiring.layout.possible, wiring.kept, progress))
            continue
        budget = share.budget
        if budget not in shares:
            shares[budget] = budget.shares(_left(budget.possible, budget.kept, progress))
        edges.append(shares[budget][share.index])
    return edges


def _left(possible: int, kept: int, progress: float) -> int:
    return possible - int(progress * (possible - kept))


def _is_alike(value: Any, parameter: Tensor) -> bool:
    return isinstance(value, Tensor) and value.shape == parameter.shape


def _parametrized(layer: nn.Module) -> ParametrizationList:
    """The parametrized weight of a layer that has one."""
    return cast("ParametrizationList", cast("nn.ModuleDict", layer.parametrizations)["weight"])


def _layers(network: nn.Module, skip: Collection[str]) -> list[Layer]:
    """The layers to wire, in order."""
    found = {name: module for name, module in network.named_modules() if isinstance(module, Layer)}
    for pattern in skip:
        if not any(fnmatchcase(name, pattern) for name in found):
            raise ValueError(f"No layer to leave dense is called {pattern!r}; there are {', '.join(found)}.")
    chosen = {n: m for n, m in found.items() if not any(fnmatchcase(n, pattern) for pattern in skip)}
    if not chosen:
        raise ValueError("There is no convolution or linear layer left to wire.")
    for name, module in chosen.items():
        if parametrize.is_parametrized(module, "weight"):
            raise ValueError(f"The weight of layer {name} is wired or parametrized already.")
    if len({id(module.weight) for module in chosen.values()}) < len(chosen):
        raise ValueError("Layers that share one weight cannot be wired.")
    return list(chosen.values())
