"""Checkpoints of the 2019 code of Discovering Neural Wirings, converted to our networks.

That code kept a whole matrix of weights for every graph and chose the acting edges among all its entries, those
that can never act included. So the choice is made over the whole matrix here, and what cannot act is dropped
afterwards: exactly the edges of 2019 are evaluated.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from models.networks.neural_graph import ContinuousTimeNeuralGraph, DiscreteTimeNeuralGraph
from models.wirings.graph import Graph, graphs
from models.wirings.selection import keep_largest
from models.wirings.targeted_dropout import RegularTargetedDropout

_STEP_PARTS = ("conv.", "graph.", "norm.")


def convert(state: Mapping[str, Tensor], network: nn.Module) -> dict[str, Any]:
    """A state dict for `network` from one of 2019 in the names and shapes of that time.

    Args:
        state: name -> tensor, without the prefix `module.`; matrices as [rows, columns, 1, 1].
        network: the network that the checkpoint is of; only its structure is read.

    Raises:
        ValueError: a graph's matrix is missing or has another shape than the network's.
    """
    converted: dict[str, Any] = {_rename(name, network): tensor for name, tensor in state.items() if name != "zeros"}
    for name, graph in graphs(network):
        assert isinstance(graph, Graph)  # no layer was wired from outside in 2019
        weight = _take(converted, f"{name}.weight", graph)
        mask = _take(converted, f"{name}.mask", graph) if f"{name}.mask" in converted else None
        converted[f"{name}.weight"] = graph.layout.from_matrix(weight)
        own = graph.wiring.state_dict()
        if "mask" in own:
            converted[f"{name}.wiring.mask"] = graph.layout.from_matrix(mask) != 0 if mask is not None else own["mask"]
        if "_extra_state" in own:
            converted[f"{name}.wiring._extra_state"] = {"active": _active(graph, weight, mask)}
    return converted


def _rename(name: str, network: nn.Module) -> str:
    if isinstance(network, ContinuousTimeNeuralGraph):
        return name.replace("odesolve.odefunc.", "step.", 1)
    if isinstance(network, DiscreteTimeNeuralGraph) and name.startswith(_STEP_PARTS):
        return f"step.{name}"
    return name


def _take(state: dict[str, Any], name: str, graph: Graph) -> Tensor:
    """Remove a whole matrix from the state and return it as [rows, columns]."""
    rows, columns = graph.layout.rows, graph.layout.columns
    matrix = state.pop(name, None)
    if matrix is None:
        raise ValueError(f"the checkpoint has no {name}")
    if tuple(matrix.shape) != (rows, columns, 1, 1):
        raise ValueError(f"{name} has the shape {list(matrix.shape)} in the checkpoint, not {[rows, columns, 1, 1]}")
    return matrix.view(rows, columns)


def _active(graph: Graph, weight: Tensor, mask: Tensor | None) -> int:
    """How many edges that can act the code of 2019 lets act."""
    if isinstance(graph.wiring, RegularTargetedDropout):
        return graph.wiring.kept
    entries = (weight if mask is None else weight * mask).reshape(-1)
    chosen = keep_largest(entries, len(entries) - int(graph.wiring.prune_rate * len(entries)))
    return int(graph.layout.from_matrix(chosen).count_nonzero())
