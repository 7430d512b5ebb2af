"""Whether another order of the sources makes the native engine's blocks of edges denser, on a trained wiring too.

    python benchmarks/source_order.py [--json FILE]

A node loads and stores its sums once for every block of sources that it has an edge in: a visit. The engine's blocks
are of sources in the order of their places; here also in that of the nodes that they feed, and in that of the edges'
first singular vector, which puts sources together that feed the same nodes. Visits are counted, not timed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.compared_networks import published_wiring
from benchmarks.conditions import conditions
from genutil.api import load
from models.sparse import work
from models.sparse.compile import compile_graph
from models.sparse.plan_spec import BYTES, PlannedLevel, WorkSchedule
from models.sparse.sources import PlacedEdges

NETWORKS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "static, learned": (lambda: load("pretrained:cifar10_static_dnw").network, 32),
    "static, random": (lambda: load("pretrained:cifar10_static_random_graph").network, 32),
    "MobileNet-like x0.225, random": (lambda: published_wiring("x225").eval(), 224),
}


def by_place(feeds: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.arange(feeds.shape[1])


def by_degree(feeds: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.argsort(-feeds.sum(0), kind="stable")


def by_singular_vector(feeds: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.argsort(np.linalg.svd(feeds - feeds.mean(0), full_matrices=False)[2][0], kind="stable")


ORDERS = {"place": by_place, "degree": by_degree, "singular vector": by_singular_vector}
"""Of [nodes, sources], how many edges lead from the one to the other, the order of the sources."""


def placed_edges(network: nn.Module, image_size: int) -> list[tuple[PlannedLevel, PlacedEdges]]:
    """The levels that the native engine plans, with their edges."""
    found = []

    def noted(planned: PlannedLevel, edges: PlacedEdges, threads: int) -> list[WorkSchedule]:
        found.append((planned, edges.sorted()))
        return work.schedules(planned, edges, threads)

    with mock.patch("models.sparse.plan.schedules", noted), torch.inference_mode():
        compile_graph(network, "native")(torch.zeros(1, 3, image_size, image_size))
    return found


def count(network: nn.Module, image_size: int) -> dict[str, Any]:
    """Edges and, by order, visits of the levels whose sources need more than one block."""
    edges_count, visits = 0, dict.fromkeys(ORDERS, 0)
    for planned, edges in placed_edges(network, image_size):
        most = max(1, work.SOURCES_NEAR // (BYTES * planned.tile))
        places, source = np.unique(edges.offset, return_inverse=True)
        if len(places) <= most:
            continue
        edges_count += len(source)
        feeds = np.zeros((planned.level.nodes, len(places)))
        np.add.at(feeds, (edges.row, source), 1)
        for name, order in ORDERS.items():
            ranks = np.empty(len(places), np.int64)
            ranks[order(feeds)] = np.arange(len(places))
            blocks = work.block_of_source(ranks[source], most)
            visits[name] += len(np.unique(np.stack([edges.row, blocks]), axis=1).T)
    return {"edges": edges_count, "visits": visits}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = [{"network": name, **count(make(), size)} for name, (make, size) in NETWORKS.items()]
    for row in rows:
        print(f"{row['network']}: {row['edges']:,} edges, visits {row['visits']}")
    if options.json:
        options.json.write_text(json.dumps({"measured": conditions(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
