"""The subcommand that makes the page of a run."""

from __future__ import annotations

import argparse
from pathlib import Path

from genutil.cli.subcommands import Action, Parser


def report(parser: Parser) -> Action:
    """Make the page of a run from what it has left."""
    parser.description = (
        "Make the page of a run: curves, costs, and the wiring as a picture to look around in. It is one HTML file "
        "that any browser opens, without a network."
    )
    parser.add_argument("folder", type=Path, metavar="RUN_DIR", help="of a run's checkpoints, or of its log")
    parser.add_argument("--out", type=Path, help="file of the page [report.html in the run's folder]")
    return write


def write(args: argparse.Namespace) -> None:
    """Make the page, and say where it is."""
    from genutil.run_report import write_report  # imports torch

    page = write_report(args.folder, args.out)
    print(f"report: {page} (in any browser: {page.resolve().as_uri()})")
