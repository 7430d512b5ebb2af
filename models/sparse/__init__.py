"""The channel graph of a trained network, and the engines that run it at the cost of its live edges."""

# The table of engines can be read without torch; what needs torch is imported when it is used.

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from models.registry import resolve
from models.sparse.engines import ENGINES, Engine, engine_names

if TYPE_CHECKING:
    from models.sparse.compile import compile_graph
    from models.sparse.equality import EngineError
    from models.sparse.from_network import channel_graph, channel_graphs, whole_graph
    from models.sparse.graph import ChannelGraph

__all__ = [
    "ENGINES",
    "ChannelGraph",
    "Engine",
    "EngineError",
    "channel_graph",
    "channel_graphs",
    "compile_graph",
    "engine_names",
    "whole_graph",
]

_PLACES = {
    "ChannelGraph": "models.sparse.graph:ChannelGraph",
    "EngineError": "models.sparse.equality:EngineError",
    "channel_graph": "models.sparse.from_network:channel_graph",
    "channel_graphs": "models.sparse.from_network:channel_graphs",
    "compile_graph": "models.sparse.compile:compile_graph",
    "whole_graph": "models.sparse.from_network:whole_graph",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return resolve(_PLACES[name])
