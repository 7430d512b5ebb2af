"""The options of rules: typed, bounded and described in plain values, so that they can be read without torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

_NOUNS: dict[type, str] = {int: "a whole number", float: "a number", bool: "true or false"}


@dataclass(frozen=True)
class Option:
    """What a rule may be told beside its prune rate.

    Attributes:
        name: of the keyword argument of the rule's constructor.
        kind: type of its values: int, float or bool.
        default: the value where none is given.
        description: a few words for help texts.
        key: its name among the settings of an experiment; rules that share an option share the key.
        at_least, above, at_most, below: bounds of a number, where it has any.
        words: texts that may stand in the place of a number.
        before: name of another option of the same rule, whose value must be larger.
    """

    name: str
    kind: type
    default: Any
    description: str
    key: str
    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None
    words: tuple[str, ...] = ()
    before: str | None = None

    @property
    def bounds(self) -> dict[str, float]:
        """The bounds that there are, by the phrase that names them."""
        bounds = {"at least": self.at_least, "above": self.above, "at most": self.at_most, "below": self.below}
        return {phrase: bound for phrase, bound in bounds.items() if bound is not None}

    @property
    def expectation(self) -> str:
        """The values that it takes, in words: "a number, above 0 and at most 1, or gamma"."""
        bounds = " and ".join(f"{phrase} {bound:g}" for phrase, bound in self.bounds.items())
        return ", or ".join([", ".join(filter(None, [_NOUNS[self.kind], bounds])), *self.words])

    def accepts(self, value: Any) -> bool:
        """Whether a value has the type and lies within the bounds. An int is a number too, true and false are none."""
        if isinstance(value, str):
            return value in self.words
        if self.kind is bool or isinstance(value, bool):
            return self.kind is bool and isinstance(value, bool)
        if not isinstance(value, int if self.kind is int else (int, float)):
            return False
        return (
            math.isfinite(value)
            and (self.at_least is None or value >= self.at_least)
            and (self.above is None or value > self.above)
            and (self.at_most is None or value <= self.at_most)
            and (self.below is None or value < self.below)
        )


RHO = Option(
    "rho",
    float,
    0.95,
    "chance that a weak weight is dropped; gamma is prune_rate",
    "rho",
    above=0,
    at_most=1,
    words=("gamma",),
)
INTERVAL = Option("interval", int, 100, "steps between two changes", "wiring_interval", at_least=1)
BEGIN = Option(
    "begin",
    float,
    0.0,
    "share of the steps before the first change",
    "wiring_begin",
    at_least=0,
    below=1,
    before="end",
)
END = Option("end", float, 0.75, "share of the steps with changes", "wiring_end", above=0, at_most=1)
FRACTION = Option(
    "fraction", float, 0.3, "share of the acting edges replaced at a change", "wiring_fraction", above=0, at_most=1
)
NEAR = Option(
    "near", float, 2.0, "idle edges with a gradient in every step, in numbers of acting ones", "wiring_near", at_least=0
)
EVERY = Option("every", int, 8, "steps from one gradient of all edges to the next", "wiring_every", at_least=1)
INITIAL = Option("initial", float, -10.0, "where the learned threshold, a sigmoid's argument, starts", "str_initial")
DECAY = Option("decay", float, 5e-4, "its weight decay, which drives the threshold up", "str_decay", at_least=0)
