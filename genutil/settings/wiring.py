"""The settings of the wiring: the rule, and the options that the rules declare."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, create_model, model_validator

from genutil.settings.field_types import OneOf
from genutil.settings.section import FilePath, Number, Section, Share, Whole
from models.wirings.budgets import BUDGETS
from models.wirings.options import Option
from models.wirings.registry import WIRINGS, rule_options, takers

OPTIONS = rule_options()
"""The options of all rules, by their keys."""


class Wiring(Section):
    """The wiring"""

    wiring: Annotated[str, OneOf(WIRINGS)] = Field("complete", description="rule of every wired layer")
    prune_rate: Share = Field(0.0, description="share of the edges removed")
    budget: Annotated[str, OneOf(BUDGETS)] = Field(
        "uniform",
        description="how layers share the kept edges: "
        + ", ".join(f"{name} {budget.description}" for name, budget in BUDGETS.items()),
    )
    dense_layers: list[str] = Field(
        default_factory=list, description="names of layers that stay dense; * and ? match as in file names"
    )
    use_graph: FilePath | None = Field(
        None, description="fine_tune: checkpoint of the trained complete graph whose top edges are kept"
    )
    use_init: FilePath | None = Field(
        None, description="fine_tune: checkpoint of the untrained weights to start again from"
    )

    @model_validator(mode="after")
    def _fit_wiring(self) -> Self:
        if self.use_graph and self.wiring != "fine_tune":
            raise ValueError(f"use_graph belongs to wiring: fine_tune, and wiring is {self.wiring}")
        if self.use_init and not self.use_graph:
            raise ValueError("use_init needs use_graph, the checkpoint that the kept edges come from")
        return self


def _annotation(option: Option) -> Any:
    """The type of an option's field."""
    bounds = {"at least": "ge", "above": "gt", "at most": "le", "below": "lt"}
    limits: dict[str, Any] = {bounds[phrase]: bound for phrase, bound in option.bounds.items()}
    kind: Any = {int: Whole, float: Number}.get(option.kind, option.kind)
    number = Annotated[kind, Field(**limits)] if limits else kind
    return number | Literal[option.words] if option.words else number


def _field(option: Option) -> tuple[Any, Any]:
    description = f"{', '.join(takers(option))}: {option.description}"
    return _annotation(option), Field(option.default, description=description)


if TYPE_CHECKING:

    class RuleOptions(Section):
        """Options of the rules"""

else:
    RuleOptions = create_model(
        "RuleOptions", __base__=Section, **{key: _field(option) for key, option in OPTIONS.items()}
    )
    RuleOptions.__doc__ = "Options of the rules"


def untaken(rule: str, keys: Iterable[str]) -> list[str]:
    """Those of the keys that are options of other rules than this one."""
    if rule not in WIRINGS:
        return []
    return [key for key in keys if key in OPTIONS and OPTIONS[key] not in WIRINGS[rule].options]


def check_options(rule: str, settings: Section) -> None:
    """Check the options that a rule is given among its settings.

    Raises:
        ValueError: the value of an option that the rule does not take is not its default, or two do not fit together.
    """
    for key in untaken(rule, OPTIONS):
        option = OPTIONS[key]
        if getattr(settings, key) != option.default:
            raise ValueError(f"{key} is an option of {', '.join(takers(option))}, and wiring is {rule}")
    own = {option.name: option for option in WIRINGS[rule].options}
    for option in own.values():
        if option.before:
            later = own[option.before].key
            if getattr(settings, option.key) >= getattr(settings, later):
                raise ValueError(f"{option.key} must be below {later}")


def chosen_options(rule: str, settings: Section) -> dict[str, Any]:
    """The options of a rule among the settings, by the names that the rule has for them."""
    return {option.name: getattr(settings, option.key) for option in WIRINGS[rule].options}
