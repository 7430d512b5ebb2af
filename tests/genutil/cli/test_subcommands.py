"""The table of subcommands."""

from __future__ import annotations

import argparse
import subprocess
import sys

import pytest

import runner
from genutil.cli import subcommands
from genutil.cli.subcommands import Action, Parser, Subcommand
from genutil.errors import UserError
from tests.structure import ROOT


def describe(parser: Parser) -> Action:
    parser.add_argument("file")
    parser.add_argument("--status", type=int)
    return act


def act(args: argparse.Namespace) -> int | None:
    print(args)
    if args.file == "missing":
        raise FileNotFoundError(2, "there is no file", args.file)
    return args.status


@pytest.fixture(params=[False, True])
def entered(request, monkeypatch):
    """A subcommand of the test's own, `act`; whether it takes the words of a run."""
    row = Subcommand(f"{__name__}:describe", "FILE", "act on a file", takes_settings=request.param)
    monkeypatch.setitem(subcommands.SUBCOMMANDS, "act", row)
    monkeypatch.setitem(sys.modules, __name__, sys.modules[describe.__module__])
    return request.param


def test_a_row_is_all_that_a_subcommand_needs(entered, capsys):
    assert runner.main(["act", "a.txt"]) == 0
    assert "file='a.txt'" in capsys.readouterr().out
    assert runner.main(["act", "a.txt", "--status", "1"]) == 1
    assert runner.main(["--help"]) == 0
    shown = [line.split() for line in capsys.readouterr().out.splitlines() if "runner.py act" in line]
    assert shown == [["python", "runner.py", "act", "FILE", "act", "on", "a", "file"]]


def test_mistakes_end_with_a_sentence(entered, capsys):
    assert runner.main(["act", "missing"]) == 2
    assert "there is no file: 'missing'." in capsys.readouterr().err
    assert runner.main(["act"]) == 2
    assert capsys.readouterr().err == "runner.py act: the following arguments are required: file.\n"


def test_words_of_a_run_are_handed_on_where_they_are_taken(entered, capsys):
    if entered:
        _, arguments = subcommands.parse("act", ["a.txt", "app:quickstart", "--lr", "1"])
        assert arguments.settings == ["app:quickstart", "--lr", "1"]
    else:
        with pytest.raises(UserError, match=r"unrecognized arguments: app:quickstart --lr 1\."):
            subcommands.parse("act", ["a.txt", "app:quickstart", "--lr", "1"])


@pytest.mark.parametrize("name", subcommands.SUBCOMMANDS)
def test_each_explains_itself(name, capsys):
    with pytest.raises(SystemExit) as ended:
        runner.main([name, "--help"])
    assert ended.value.code == 0
    assert f"usage: runner.py {name}" in capsys.readouterr().out


def test_the_table_loads_nothing_heavy():
    code = "import sys, genutil.cli.subcommands; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
