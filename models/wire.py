"""Any convolution or linear layer of any network under any wiring rule.

`wire` registers a wiring as a parametrization (`torch.nn.utils.parametrize`) of the layers' weights, so that
the network's own code stays as it is. An edge is one entry of a weight: row = output channel, column = input
channel and place in the kernel.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from fnmatch import fnmatchcase
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from models.rivals import Scheduled
from models.selection import keep_largest
from models.wiring import WIRINGS, EdgeLayout, FineTune, Graph, Learned, RegularTargetedDropout, Wiring

Budget = Literal["uniform", "erk", "global"]


class GlobalBudget:
    """One budget for all wired layers of a network: the entries of largest score act, wherever they stand.

    Args:
        kept: edges that act in all layers together.
    """

    def __init__(self, kept: int) -> None:
        self.kept = kept
        self._weights: list[parametrize.ParametrizationList] = []
        self._shares: tuple[list[tuple[int, int]], list[int]] | None = None

    def join(self, layer: nn.Module) -> int:
        """Take a wired layer in; its index among the budget's layers."""
        self._weights.append(layer.parametrizations["weight"])
        return len(self._weights) - 1

    @property
    def possible(self) -> int:
        return sum(weight.original.numel() for weight in self._weights)

    def share(self, index: int) -> int:
        """Edges of one layer now; all are chosen anew when any weight has changed."""
        state = [(weight.original.data_ptr(), weight.original._version) for weight in self._weights]
        if self._shares is None or self._shares[0] != state:
            self._shares = state, self.shares(self.kept)
        return self._shares[1][index]

    @torch.no_grad()
    def shares(self, kept: int) -> list[int]:
        """Edges of every layer when so many act in all of them together."""
        scores = [weight[0].wiring.score(weight.original.reshape(-1)) for weight in self._weights]
        mask = keep_largest(torch.cat([score.to(scores[0].device) for score in scores]), kept)
        return [int(part.count_nonzero()) for part in mask.split([len(score) for score in scores])]


class WiredWeight(nn.Module):
    """The parametrization of one layer's weight: the wiring over its entries.

    Attributes:
        budget: the global budget that the layer takes part in, and its index there.
    """

    def __init__(self, wiring: Wiring) -> None:
        super().__init__()
        self.wiring = wiring
        self.budget: tuple[GlobalBudget, int] | None = None

    def forward(self, weight: Tensor) -> Tensor:
        return self.wiring(self._flat(weight)).view(weight.shape)

    @torch.no_grad()
    def acting(self, weight: Tensor) -> Tensor:
        """Mask of the edges that act in evaluation, of the weight's shape."""
        return self.wiring.acting(self._flat(weight)).view(weight.shape)

    def settle(self) -> None:
        """Take the layer's share of a global budget."""
        if self.budget is not None:
            budget, index = self.budget
            self.wiring.allot(budget.share(index))

    def _flat(self, weight: Tensor) -> Tensor:
        flat = weight.reshape(-1)
        if isinstance(self.wiring, Learned):
            self.settle()
            if flat.data_ptr() != weight.data_ptr():  # a copy: the choice made for another one is not its own
                self.wiring.train(self.wiring.training)
        return flat


def wire(
    network: nn.Module,
    rule: str,
    prune_rate: float,
    *,
    skip: Collection[str] = (),
    budget: Budget = "uniform",
    **options: Any,
) -> nn.Module:
    """Wire the convolutions and linear layers of a network; biases and norms stay dense.

    Args:
        network: changed in place, and returned.
        rule: name of the wiring, see models.wiring.WIRINGS.
        prune_rate: share of the edges removed.
        skip: names of layers to leave dense, as `network.named_modules` gives them; * and ? match as in file names.
        budget: how the kept edges are spread. uniform: every layer keeps the same share. erk: Erdos-Renyi-kernel, a
            layer's share is proportional to the sum of its weight's sides over their product (Evci et al. 2020, arXiv
            1911.11134). global: the edges of largest score in all layers together, followed as the weights change.
        options: further arguments of the rule, as interval or fraction.

    Raises:
        ValueError: an unknown rule, budget or option; a name to skip that matches no layer; a layer that is wired
            already; nothing left to wire.
    """
    if rule not in WIRINGS:
        raise ValueError(f"There is no wiring {rule!r}; there are {', '.join(WIRINGS)}.")
    if budget == "global" and issubclass(WIRINGS[rule], RegularTargetedDropout):
        raise ValueError("reg_td keeps as many edges in each row, which a global budget does not allow.")
    layers = _layers(network, skip)
    counts = _counts([tuple(layer.weight.shape) for layer in layers], prune_rate, budget)
    for layer in layers:
        layout = EdgeLayout.full(layer.weight.shape[0], layer.weight[0].numel())
        try:
            wiring = WIRINGS[rule](layout, prune_rate, **options)
        except TypeError as error:
            raise ValueError(f"The wiring {rule} has no such option: {error}.") from error
        wiring.to(layer.weight.device)
        parametrize.register_parametrization(layer, "weight", WiredWeight(wiring))
    if budget == "global":
        joint = GlobalBudget(sum(counts))
        members = [joint.join(layer) for layer in layers]
        counts = joint.shares(joint.kept)
        for layer, index in zip(layers, members, strict=True):
            wired_weight(layer).budget = joint, index
    for layer, count in zip(layers, counts, strict=True):
        wiring = wired_weight(layer).wiring
        if budget != "uniform":
            wiring.allot(count)
        wiring.start(original(layer).detach().reshape(-1))
    return network


def unwire(network: nn.Module) -> nn.Module:
    """Put the effective weights of evaluation in the place of wired ones, in place; what does not act is 0 then."""
    for _, layer in wired_layers(network):
        layer.eval()
        parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
    return network


def wired_layers(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The layers that `wire` has wired, with their names."""
    for name, module in network.named_modules():
        if _is_wired(module):
            yield name, module


def wired_weight(layer: nn.Module) -> WiredWeight:
    """The parametrization of a wired layer."""
    return layer.parametrizations["weight"][0]


def original(layer: nn.Module) -> Tensor:
    """The full weight of a wired layer: the parameter that is trained."""
    return layer.parametrizations["weight"].original


def acting_edges(network: nn.Module) -> dict[str, Tensor]:
    """Mask of the edges that act in evaluation, of the weight's shape, for every layer that `wire` has wired."""
    return {name: wired_weight(layer).acting(original(layer)) for name, layer in wired_layers(network)}


def fix_wired(network: nn.Module) -> None:
    """Fix every `fine_tune` wiring of a wired network to the edges that are strongest now."""
    for _, layer in wired_layers(network):
        wired = wired_weight(layer)
        if isinstance(wired.wiring, FineTune):
            wired.settle()
            wired.wiring.fix(original(layer).detach().reshape(-1))


@torch.no_grad()
def update_wirings(network: nn.Module, optimizer: torch.optim.Optimizer, step: int, steps: int) -> None:
    """Let every wiring that follows a schedule change; for after each step of the optimizer, with its gradients.

    Args:
        network: with layers wired by `wire`, or with graphs of its own (models.wiring.Graph).
        optimizer: of its parameters; what it keeps for an edge is set to 0 where the edge is grown.
        step, steps: the step just done, counted from 0, and how many the training has.
    """
    scheduled = list(_scheduled(network))
    due = [entry for entry in scheduled if entry[1].due(step, steps)]
    for (parameter, wiring, _), edges in zip(due, _edges(due, step, steps), strict=True):
        states = [value for value in optimizer.state.get(parameter, {}).values() if _is_alike(value, parameter)]
        tensors = [parameter.detach(), *states]
        weight, *flat_states = flat = [tensor.reshape(-1) for tensor in tensors]
        gradient = None if parameter.grad is None else parameter.grad.reshape(-1)
        wiring.change(weight, gradient, flat_states, edges, step, steps)
        for tensor, changed in zip(tensors, flat, strict=True):
            if changed.data_ptr() != tensor.data_ptr():
                tensor.copy_(changed.view(tensor.shape))
    for _, wiring, _ in scheduled:
        wiring.prepare(step + 1, steps)


Entry = tuple[nn.Parameter, Scheduled, tuple[GlobalBudget, int] | None]


def _scheduled(network: nn.Module) -> Iterator[Entry]:
    """Full weights, their wirings that follow a schedule, and the share of a global budget that they have."""
    for module in network.modules():
        if isinstance(module, Graph) and isinstance(module.wiring, Scheduled):
            yield module.weight, module.wiring, None
        elif _is_wired(module) and isinstance(wired_weight(module).wiring, Scheduled):
            yield original(module), wired_weight(module).wiring, wired_weight(module).budget


def _edges(due: list[Entry], step: int, steps: int) -> list[int]:
    """How many edges of each may act after this step."""
    shares: dict[GlobalBudget, list[int]] = {}
    edges = []
    for _, wiring, joint in due:
        progress = wiring.progress(step, steps)
        if joint is None:
            edges.append(_left(wiring.layout.possible, wiring.kept, progress))
            continue
        budget, index = joint
        if budget not in shares:
            shares[budget] = budget.shares(_left(budget.possible, budget.kept, progress))
        edges.append(shares[budget][index])
    return edges


def _left(possible: int, kept: int, progress: float) -> int:
    return possible - int(progress * (possible - kept))


def _is_wired(module: nn.Module) -> bool:
    return parametrize.is_parametrized(module, "weight") and isinstance(
        module.parametrizations["weight"][0], WiredWeight
    )


def _is_alike(value: Any, parameter: Tensor) -> bool:
    return isinstance(value, Tensor) and value.shape == parameter.shape


def _layers(network: nn.Module, skip: Collection[str]) -> list[nn.Module]:
    """The layers to wire, in order."""
    kinds = nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear
    found = {name: module for name, module in network.named_modules() if isinstance(module, kinds)}
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


def _counts(shapes: list[tuple[int, ...]], prune_rate: float, budget: Budget) -> list[int]:
    """Edges that each layer keeps; of a global budget only the sum counts."""
    sizes = [math.prod(shape) for shape in shapes]
    if budget == "uniform":
        return [size - int(prune_rate * size) for size in sizes]
    kept = sum(sizes) - int(prune_rate * sum(sizes))
    if budget == "global":
        return [kept, *[0] * (len(sizes) - 1)]
    if budget == "erk":
        return _round(_erdos_renyi_kernel(shapes, kept), kept)
    raise ValueError(f"There is no budget {budget!r}; there are uniform, erk, global.")


def _erdos_renyi_kernel(shapes: list[tuple[int, ...]], kept: int) -> list[float]:
    """Edges of each layer: in proportion to the sum of the sides of its weight, but never more than it has."""
    sides = [sum(shape) for shape in shapes]
    sizes = [math.prod(shape) for shape in shapes]
    dense: set[int] = set()
    while True:
        left = kept - sum(sizes[i] for i in dense)
        scale = left / max(sum(s for i, s in enumerate(sides) if i not in dense), 1)
        full = {i for i in range(len(sizes)) if i not in dense and scale * sides[i] > sizes[i]}
        if not full:
            return [sizes[i] if i in dense else scale * sides[i] for i in range(len(sizes))]
        dense |= full


def _round(edges: list[float], kept: int) -> list[int]:
    """Whole numbers with the sum `kept`: rounded down, and one more where the most was lost."""
    whole = [int(number) for number in edges]
    order = sorted(range(len(edges)), key=lambda i: whole[i] - edges[i])
    for i in order[: kept - sum(whole)]:
        whole[i] += 1
    return whole
