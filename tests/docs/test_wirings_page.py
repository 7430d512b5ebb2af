"""The page of wirings lists the rules and their options as the registry has them."""

from __future__ import annotations

import re

from models.wirings.options import Option
from models.wirings.registry import WIRINGS, rule_options, takers
from tests.docs.pages import ROOT

PAGE = (ROOT / "docs" / "wirings.md").read_text()


def row(option: Option) -> str:
    """The line of an option in the table of options."""
    rules = ", ".join(f"`{rule}`" for rule in takers(option))
    return f"| `{option.key}` | {rules} | {option.default} | {option.expectation} | {option.description} |"


def test_every_rule_is_listed_once():
    table = PAGE.split("| `wiring:` |")[1].split("\n\n")[0]
    cells = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|", table, re.MULTILINE)
    assert [name for cell in cells for name in re.findall(r"\w+", cell)] == list(WIRINGS)


def test_every_option_is_listed_as_the_rules_declare_it():
    table = PAGE.split("| option |")[1].split("\n\n")[0]
    assert table.splitlines()[2:] == [row(option) for option in rule_options().values()]
