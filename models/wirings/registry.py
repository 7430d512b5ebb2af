"""The table of the rules: what each is called, what makes it and which options it takes. Needs no torch.

A further rule is a file with its class and one entry here. Its class takes a layout, a prune rate and, as keyword
arguments, exactly the options of its entry (`models.wirings.wiring.Wiring`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from models.registry import Registry, resolve
from models.wirings.options import BEGIN, DECAY, END, EVERY, FRACTION, INITIAL, INTERVAL, NEAR, RHO, Option

if TYPE_CHECKING:
    from models.wirings.layout import EdgeLayout
    from models.wirings.wiring import Wiring


@dataclass(frozen=True)
class Rule:
    """A rule that says which edges act.

    Attributes:
        place: its class, or where that stands, "package.module:Class", so that the table imports nothing.
        description: a few words for help texts.
        options: what it may be told beside its prune rate.
    """

    place: str | type[Wiring]
    description: str
    options: tuple[Option, ...] = ()

    @property
    def wiring(self) -> type[Wiring]:
        """The class; its module is imported."""
        return resolve(self.place) if isinstance(self.place, str) else self.place


WIRINGS: Registry[Rule] = Registry(
    "wiring",
    {
        "complete": Rule("models.wirings.fixed:Complete", "every edge acts"),
        "random": Rule("models.wirings.fixed:Random", "a part drawn at random, once"),
        "dnw": Rule("models.wirings.learned:DNW", "the strongest act, all are trained (Discovering Neural Wirings)"),
        "dnw_no_update": Rule("models.wirings.learned:DNWNoUpdate", "the strongest act, only they are trained"),
        "dnw_near": Rule(
            "models.wirings.near:DNWNear", "as dnw, but edges far from acting are trained now and then", (NEAR, EVERY)
        ),
        "fine_tune": Rule("models.wirings.fixed:FineTune", "the strongest of a trained network, fixed"),
        "td": Rule("models.wirings.targeted_dropout:TargetedDropout", "targeted dropout", (RHO,)),
        "reg_td": Rule(
            "models.wirings.targeted_dropout:RegularTargetedDropout", "targeted dropout within each row", (RHO,)
        ),
        "gradual_magnitude": Rule(
            "models.wirings.scheduled:GradualMagnitude", "the weakest are masked, more and more", (BEGIN, END, INTERVAL)
        ),
        "set": Rule("models.wirings.scheduled:SET", "weak edges make way for random ones", (FRACTION, INTERVAL, END)),
        "rigl": Rule(
            "models.wirings.scheduled:RigL",
            "weak edges make way for those of largest gradient",
            (FRACTION, INTERVAL, END),
        ),
        "str": Rule("models.wirings.scheduled:STR", "a soft threshold is learned", (INITIAL, DECAY)),
    },
)
"""Every rule by its name. A rule from elsewhere is added as `WIRINGS[name] = Rule(...)`."""


def rule_options() -> dict[str, Option]:
    """The options of all rules by their keys.

    Raises ValueError where rules describe an option of one key differently.
    """
    options: dict[str, Option] = {}
    for name, rule in WIRINGS.items():
        for option in rule.options:
            if options.setdefault(option.key, option) != option:
                raise ValueError(f"Two wirings describe the option {option.key} differently; one of them is {name}.")
    return options


def takers(option: Option) -> list[str]:
    """Names of the rules that take an option."""
    return [name for name, rule in WIRINGS.items() if option in rule.options]


def complete_options(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """All options of the rule of that name: those given, by their names, and the defaults of the others.

    Raises:
        ValueError: an unknown rule, an option that it does not take, or a value that the option cannot have.
    """
    own = {option.name: option for option in WIRINGS.choose(name).options}
    for word in given:
        if word not in own:
            raise ValueError(_refusal(name, word))
    for word, value in given.items():
        if not own[word].accepts(value):
            raise ValueError(f"{word} must be {own[word].expectation}, not {value!r}.")
    options = {word: given.get(word, option.default) for word, option in own.items()}
    for word, option in own.items():
        if option.before and options[word] >= options[option.before]:
            raise ValueError(f"{word} must be below {option.before}, not {options[word]} and {options[option.before]}.")
    return options


def _refusal(name: str, word: str) -> str:
    others = [other for other, rule in WIRINGS.items() if word in {option.name for option in rule.options}]
    if others:
        return f"The wiring {name} takes no option {word}; it is one of {', '.join(others)}."
    own = ", ".join(option.name for option in WIRINGS[name].options) or "none"
    return f"The wiring {name} has no option {word!r}; it takes {own}."


def make_wiring(name: str, layout: EdgeLayout, /, prune_rate: float, **options: Any) -> Wiring:
    """The wiring of that name.

    Args:
        name: of the rule, in WIRINGS.
        layout: which edges can act.
        prune_rate: share of the whole matrix's entries that is removed.
        options: of the rule, by their names.

    Raises:
        ValueError: an unknown rule, an option that it does not take, or a value that is out of bounds.
    """
    return WIRINGS.choose(name).wiring(layout, prune_rate, **complete_options(name, options))
