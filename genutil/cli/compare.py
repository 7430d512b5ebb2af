"""`runner.py compare`: runs side by side, as a table, in CSV, and on a page."""

from __future__ import annotations

import argparse
from pathlib import Path

from genutil.cli.subcommands import Action, Parser
from genutil.errors import UserError, nearest
from genutil.system.files import require_place, write_text


def compare(parser: Parser) -> Action:
    """`runner.py compare`: its arguments, and what it does."""
    from genutil.reports.comparison import QUANTITIES

    parser.description = (
        "Compare runs: print a table, and write all figures as CSV and a page on which any quantity is drawn over any "
        "other. Runs that differ in their seeds alone are one line, with mean and standard deviation."
    )
    parser.epilog = f"The quantities: {', '.join(QUANTITIES)}."
    parser.add_argument(
        "runs", type=Path, nargs="+", help="folders of runs, files of results (results_dir), or folders of either"
    )
    parser.add_argument("--csv", type=Path, metavar="FILE", help="file for all figures")
    parser.add_argument("--html", type=Path, metavar="FILE", help="file for the page")
    parser.add_argument("--columns", nargs="+", metavar="QUANTITY", help="of the table")
    parser.add_argument("--x", metavar="QUANTITY", help="across the page [multiply_adds]")
    parser.add_argument("--y", metavar="QUANTITY", help="up the page [top1]")
    parser.add_argument("--each", action="store_true", help="a line for every seed")
    parser.add_argument("--latency", action="store_true", help="measure what one image takes, of runs with checkpoints")
    return compare_runs


def compare_runs(args: argparse.Namespace) -> None:
    """Read the runs, print the table, write the files."""
    from genutil.compared_runs import read_runs  # imports torch
    from genutil.reports.comparison import QUANTITIES, csv_table, mean_runs, text_table
    from genutil.reports.page.comparison import render_comparison

    for key in [*(args.columns or []), *filter(None, [args.x, args.y])]:
        if key not in QUANTITIES:
            raise UserError(f"There is no quantity {key}; the nearest is {nearest(key, QUANTITIES)}.")
    for file in filter(None, [args.csv, args.html]):
        require_place(file)
    runs = read_runs(args.runs, args.latency)
    page = render_comparison(runs, args.x, args.y) if args.html or args.x or args.y else ""
    shown = runs if args.each else mean_runs(runs)
    print(text_table(shown, args.columns))
    if args.csv:
        write_text(args.csv, csv_table(shown))
        print(f"table: {args.csv}")
    if args.html:
        write_text(args.html, page)
        print(f"page: {args.html} (in any browser: {args.html.resolve().as_uri()})")
