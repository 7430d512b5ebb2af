"""Trained networks as channel graphs: what a network tells of itself, else its wired layers one by one."""

from __future__ import annotations

from torch import nn
from torch.nn.utils import parametrize

from models.inspection import evaluating
from models.protocols import HasChannelGraph, HasChannelGraphs, HasWholeGraph
from models.sparse.graph import ChannelGraph, Edges
from models.sparse.layers import as_array, convolution_edges, layer_graph
from models.wirings.rules import Wiring


def channel_graph(network: nn.Module) -> ChannelGraph:
    """The channel graph of a whole network, or of one wired convolution or linear layer, in evaluation mode.

    Raises ValueError where a part of the network lies outside any channel graph; `channel_graphs` gives its wired
    parts.
    """
    graphs = channel_graphs(network)
    if list(graphs) != [""]:
        raise ValueError(
            f"{type(network).__name__} as a whole is no channel graph; its wired parts are "
            f"{', '.join(list(graphs)[:3]) or 'none'}{f' and {len(graphs) - 3} more' if len(graphs) > 3 else ''}."
        )
    return graphs[""]


def whole_graph(network: nn.Module) -> ChannelGraph:
    """A channel graph from the image to the logits, in evaluation mode, whether or not engines run it.

    Raises ValueError as `channel_graph`.
    """
    if isinstance(network, HasWholeGraph):
        with evaluating(network):
            return network.whole_graph()
    return channel_graph(network)


def channel_graphs(network: nn.Module) -> dict[str, ChannelGraph]:
    """The channel graphs that make up a network's wired part, by the name of the module that each one computes.

    A network says itself which it has (`models.protocols.HasChannelGraphs`): one under the name "" where it is a
    channel graph from the image to the logits. Of any other network every wired convolution and linear layer has its
    own.
    """
    with evaluating(network):
        if isinstance(network, HasChannelGraphs):
            return network.channel_graphs()
        found = {name: _layer_graph(module) for name, module in network.named_modules()}
        return {name: graph for name, graph in found.items() if graph is not None}


def _layer_graph(module: nn.Module) -> ChannelGraph | None:
    """The graph of one wired layer; None for any other module."""
    if isinstance(module, HasChannelGraph):
        return module.channel_graph()
    if not is_wired_layer(module):
        return None
    if isinstance(module, nn.Conv2d):
        return layer_graph(convolution_edges(module), module.bias, flat=False)
    assert isinstance(module, nn.Linear)
    return layer_graph(Edges.from_dense(as_array(module.weight)), module.bias, flat=True)


def is_wired_layer(module: nn.Module) -> bool:
    """One of torch's convolutions or linear layers that is wired from outside, and that edges can express."""
    if isinstance(module, nn.Conv2d):
        if type(module).forward is not nn.Conv2d.forward:
            return False
        one = len(set(module.stride)) == 1 and not isinstance(module.padding, str) and len(set(module.padding)) == 1
        if not one or module.padding_mode != "zeros" or set(module.dilation) != {1}:
            return False
    elif not isinstance(module, nn.Linear) or type(module).forward is not nn.Linear.forward:
        return False
    if not parametrize.is_parametrized(module, "weight"):
        return False
    rules = module.parametrizations["weight"].modules()  # type: ignore[union-attr, index]
    return any(isinstance(rule, Wiring) for rule in rules)
