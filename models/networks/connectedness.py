"""How likely random graphs are connected, so that what never is need not be drawn thousands of times."""

from __future__ import annotations

import math

import numpy as np

EXACT_UP_TO = 1000
"""Nodes, beyond which the limit for many nodes is taken."""


def erdos_renyi(nodes: int, p: float) -> float:
    """The probability that a graph of so many nodes, each two joined with probability p, is connected.

    Exact up to rounding by the recurrence over the component of one node (Gilbert 1959, Annals of Mathematical
    Statistics 30); for many nodes exp(-expected isolated nodes), the limit of Erdős and Rényi 1960.
    """
    if nodes == 1 or p >= 1:
        return 1.0
    if p <= 0:
        return 0.0
    absent = math.log1p(-p)
    if nodes > EXACT_UP_TO:
        return math.exp(-nodes * math.exp((nodes - 1) * absent))
    log_factorials = np.array([math.lgamma(number + 1) for number in range(nodes + 1)])
    connected = np.zeros(nodes + 1)
    for size in range(1, nodes + 1):
        # a component of k of the nodes, which holds the first, and no edge from it to the others
        k = np.arange(1, size)
        ways = log_factorials[size - 1] - log_factorials[k - 1] - log_factorials[size - k]
        connected[size] = max(0.0, 1 - float(np.sum(np.exp(ways + k * (size - k) * absent) * connected[k])))
    return float(connected[nodes])
