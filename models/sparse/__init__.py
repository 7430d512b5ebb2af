"""The channel graph of a trained network, and the engines that run it at the cost of its live edges."""

from models.sparse.compile import ENGINES, EngineError, compile_graph
from models.sparse.from_network import channel_graph, channel_graphs
from models.sparse.graph import ChannelGraph

__all__ = ["ENGINES", "ChannelGraph", "EngineError", "channel_graph", "channel_graphs", "compile_graph"]
