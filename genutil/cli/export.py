"""The subcommand that writes a trained network for other programs."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from genutil.build import build
from genutil.cli import command_line
from genutil.cli.predict import known_names
from genutil.cli.subcommands import Action, Parser
from genutil.errors import UserError
from genutil.saved.exports import formats
from genutil.saved.exports.content import Exported
from genutil.saved.sources import Sources
from genutil.system.one_process import OneProcess

ACTING_ONLY = ".safetensors"
"""The form that holds idle edges, too, unless they are left out."""


def export(parser: Parser) -> Action:
    """Write a trained network in the form that a file's ending says."""
    forms = "; ".join(f"{ending}: {form.description}" for ending, form in formats.FORMATS.items())
    parser.description = f"Write a trained network for other programs. The file's ending chooses the form: {forms}."
    parser.epilog = "Other words are settings of the run, as app:<experiment> for weights that name none, or --mean."
    parser.add_argument("checkpoint", help="a file, pretrained:<name> or keras:<prefix>")
    parser.add_argument("file", type=Path, help="to write; one that is there is replaced")
    parser.add_argument(
        "--acting_only", "--acting-only", action="store_true", help=".safetensors without the weights of idle edges"
    )
    return write


def write(args: argparse.Namespace) -> None:
    """Do it, and say what was written.

    Raises:
        UserError: a checkpoint that cannot be read, a network that cannot be exported so, a file that cannot be
            written, or idle edges left out of a form that has none.
    """
    formats.find(args.file)
    if args.acting_only and args.file.suffix != ACTING_ONLY:
        raise UserError(
            f"--acting_only is of {ACTING_ONLY} files; {args.file.suffix} ones never hold weights of idle edges."
        )
    what = replace(load(args.checkpoint, args.file.stem, args.settings), acting_only=args.acting_only)
    size = formats.export(args.file, what)
    for notice in what.notices:
        print(notice)
    print(f"written: {args.file} ({size:,} bytes)")


def load(checkpoint: str, name: str, settings: list[str]) -> Exported:
    """The network of a checkpoint, with what an export needs beside it.

    Args:
        checkpoint: as `--resume` takes it.
        name: of the export.
        settings: words of a command line: the experiment of weights that name none, other values of keys.

    Raises:
        UserError: the checkpoint cannot be read or does not fit, or a setting is a mistake.
    """
    sources = Sources()
    line = command_line.parse(settings) if settings else command_line.CommandLine()
    line.settings |= {"resume": checkpoint, "profile": True}  # neither data nor a training are made
    experiment = command_line.resolve(line, sources=sources)
    parts = build(experiment, OneProcess(), torch.device("cpu"), print, sources)
    names = sources.open(checkpoint).images().get("class_names") or known_names(parts.experiment) or ()
    return Exported(parts.experiment, parts.network.eval(), name, tuple(names))
