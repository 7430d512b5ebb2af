"""The table of subcommands: first words of the command line that ask for something else than a run.

To add one, write a module in `genutil/cli` with a function that describes the subcommand and returns what does it:

    def count(parser: Parser) -> Action:
        parser.description = "Count the edges of a checkpoint."
        parser.add_argument("checkpoint", type=Path)
        return show_count  # takes the parsed arguments; its exit status, None for 0

and a row in SUBCOMMANDS: `"count": Subcommand("genutil.cli.count:count", "CHECKPOINT", "count its edges")`. The help
of the runner lists it, `python runner.py count --help` explains it, and a mistake in its words ends with a sentence and
status 2. The module is imported when its subcommand is called; this one imports nothing heavy.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import NoReturn

from genutil.errors import UserError
from models.registry import resolve

Action = Callable[[argparse.Namespace], int | None]


class Parser(argparse.ArgumentParser):
    """An argument parser whose mistakes are UserErrors."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{self.prog}: {message}.")


@dataclass(frozen=True)
class Subcommand:
    """A row of the table.

    Attributes:
        place: "module:function" of the function that describes it.
        words: an example of what follows its name, for the runner's help.
        summary: what it does, for the runner's help.
        takes_settings: whether words that it does not know are those of a run (app:<experiment>, --key value); they
            are given to the action as `args.settings`, a list of strings.
    """

    place: str
    words: str
    summary: str
    takes_settings: bool = False


SUBCOMMANDS = {
    "graphs": Subcommand(
        "genutil.cli.commands:graphs",
        "app:<experiment> --save_path <folder>",
        "draw and write the graphs of random stages",
        takes_settings=True,
    ),
    "compare": Subcommand("genutil.cli.compare:compare", "RUN_DIR...", "a table and a page of several runs"),
    "predict": Subcommand(
        "genutil.cli.predict:predict",
        "<checkpoint> <files or folder>",
        "the most probable classes of images",
    ),
    "report": Subcommand("genutil.cli.report:report", "RUN_DIR", "make the page of a run"),
    "records": Subcommand("genutil.cli.commands:records", "--help", "write TFRecord files"),
    "export": Subcommand(
        "genutil.cli.export:export",
        "<checkpoint> <file>",
        "write a network as .safetensors, .onnx, .c, …",
        takes_settings=True,
    ),
}


def mistakes_are_sentences(action: Action) -> Action:
    """Let an action tell the ValueErrors of `data` and `models`, which are sentences, as mistakes of its user."""

    @wraps(action)
    def told(args: argparse.Namespace) -> int | None:
        try:
            return action(args)
        except ValueError as error:
            raise UserError(f"{error}.") from error

    return told


def parse(name: str, words: Sequence[str]) -> tuple[Action, argparse.Namespace]:
    """What a subcommand does, and its arguments. Raises UserError for words that it does not take."""
    subcommand = SUBCOMMANDS[name]
    parser = Parser(prog=f"runner.py {name}", allow_abbrev=False)
    action = resolve(subcommand.place)(parser)
    if not subcommand.takes_settings:
        return action, parser.parse_args(words)
    arguments, others = parser.parse_known_args(words)
    arguments.settings = others
    return action, arguments


def execute(name: str, words: Sequence[str]) -> int:
    """Do what `python runner.py <name> <words>` asks for; the exit status.

    Raises UserError where that cannot be, which includes a file that cannot be read or written.
    """
    action, arguments = parse(name, words)
    try:
        return action(arguments) or 0
    except BrokenPipeError:
        raise
    except OSError as error:
        raise UserError(f"{error}.") from error
