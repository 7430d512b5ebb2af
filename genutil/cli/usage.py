"""What the runner says of itself: how to call it, which experiments there are, which keys they have."""

from __future__ import annotations

import textwrap

from pydantic.fields import FieldInfo

from data import SETS
from genutil.cli.subcommands import SUBCOMMANDS
from genutil.config import KEYS, SECTIONS
from genutil.settings.app_files import app_name, description, experiments
from genutil.settings.field_types import expectation
from models.wirings.registry import WIRINGS

USAGE = """\
Train, evaluate and profile networks whose wiring is learned, drawn at random or fixed.

  python runner.py app:<experiment> [--key value ...]            train
  python runner.py app:<experiment> --profile                    count parameters and multiply-adds
  python runner.py app:<file of several experiments>             run them one after the other
  python runner.py --resume <checkpoint> --evaluate              evaluate; its settings are in it
  python runner.py --resume <checkpoint>                         go on training
  python runner.py --help                                        this, and all keys
"""
HABITS = """\
Lists: --gpus 0 1. Switches: --evaluate, --no-evaluate, --verify false. - and _ are alike: --data-dir DIR.
An experiment is a file, or one of these; its folder may be left out where one name remains:
"""


def overview() -> str:
    """How to call the runner, and a line for every experiment."""
    named = {app_name(path): description(path) for path in experiments()}
    width = max(map(len, named))
    lines = [f"\n  {name:{width}}  {text}".rstrip() for name, text in named.items()]
    return "".join([USAGE, _subcommands(), "\n", HABITS, *lines])


def _subcommands() -> str:
    calls = {f"python runner.py {name} {row.words}": row.summary for name, row in SUBCOMMANDS.items()}
    return "".join(f"  {call:61}  {summary}\n" for call, summary in calls.items())


def all_keys() -> str:
    """Every key of an experiment: what it takes, its default, its meaning."""
    parts = []
    for section in SECTIONS:
        keys = [field.alias or name for name, field in section.model_fields.items()]
        parts.append("\n".join([f"{section.__doc__}:", *map(_line, keys)]))
    return "\n\n".join([*parts, _rules()])


def _rules() -> str:
    """Every rule: what it does, and the options that it takes."""
    lines = ["The rules (--wiring):"]
    for name, rule in WIRINGS.items():
        options = ", ".join(option.key for option in rule.options)
        text = f"{rule.description}; takes {options}" if options else rule.description
        lines.append(textwrap.fill(text, 110, initial_indent=f"  {name:27} ", subsequent_indent=" " * 30))
    return "\n".join(lines)


def data_sets() -> str:
    """A line for every data set with a name: its classes, and what it is read from."""
    width = max(map(len, SETS))
    rows = [(name, "" if entry.classes is None else entry.classes, entry.files) for name, entry in SETS.items()]
    lines = [f"  {name:{width}} {classes:>4}  {files}".rstrip() for name, classes, files in rows]
    folder = "Any other --data is a folder <data-dir>/<name> of images, laid out as imagenet's, or of TFRecord files."
    return "\n".join(["The data sets, their classes and files:", *lines, folder])


def _line(key: str) -> str:
    field = KEYS[key]
    text = f"{field.description}; {expectation(field).removeprefix('a ')} [{_default(field)}]"
    return textwrap.fill(text, 110, initial_indent=f"  --{key:25} ", subsequent_indent=" " * 30)


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    if value is None or value == []:
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)
