"""Everything that the rules are made of, to import from one place; `models.wirings.registry` is the table of them."""

from models.wirings.fixed import Complete, FineTune, Random
from models.wirings.graph import Graph, LayerGraph, WiredWeight, fix_graph, graphs
from models.wirings.layout import Block, EdgeLayout
from models.wirings.learned import DNW, DNWNoUpdate, Learned
from models.wirings.registry import WIRINGS, make_wiring
from models.wirings.targeted_dropout import RegularTargetedDropout, TargetedDropout
from models.wirings.wiring import StraightThrough, Wiring

__all__ = [
    "DNW",
    "WIRINGS",
    "Block",
    "Complete",
    "DNWNoUpdate",
    "EdgeLayout",
    "FineTune",
    "Graph",
    "LayerGraph",
    "Learned",
    "Random",
    "RegularTargetedDropout",
    "StraightThrough",
    "TargetedDropout",
    "WiredWeight",
    "Wiring",
    "fix_graph",
    "graphs",
    "make_wiring",
]
