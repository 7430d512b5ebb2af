"""The solvers of the network in continuous time. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass

from models.registry import Registry


@dataclass(frozen=True)
class Solver:
    """A method of torchdiffeq.

    Attributes:
        adaptive: it chooses its steps by a tolerance; else it takes so many even ones.
    """

    adaptive: bool = False


SOLVERS: Registry[Solver] = Registry(
    "solver", {"dopri5": Solver(adaptive=True), "rk4": Solver(), "euler": Solver(), "midpoint": Solver()}
)
"""Every solver by the name that torchdiffeq knows it by."""
