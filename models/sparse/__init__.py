"""The channel graph of a trained network, and the engines that run it at the cost of its live edges."""

from models.sparse.from_network import channel_graph, channel_graphs
from models.sparse.graph import ChannelGraph

__all__ = ["ChannelGraph", "channel_graph", "channel_graphs"]
