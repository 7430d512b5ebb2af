from __future__ import annotations

import os
import subprocess
import sys

import pytest

from genutil.system.output import unbreakable
from tests.genutil.runs import ROOT

PROGRAM = """
import sys
from genutil.system.output import unbreakable
with unbreakable():
    for number in range(3000):
        print("line", number)
        print("error", number, file=sys.stderr, flush=True)
    print("more", flush=True)
sys.exit(7)
"""


def status(**streams: int) -> int:
    return subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, **streams).returncode


def test_a_reader_that_has_gone_ends_nothing() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    assert status(stdout=writing, stderr=writing) == 7
    os.close(writing)


def test_a_full_disk_ends_nothing() -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    assert status(stdout=full, stderr=full) == 7
    os.close(full)


def test_streams_that_are_closed_end_nothing() -> None:
    assert (
        subprocess.run(["sh", "-c", 'exec "$@" >&- 2>&-', "sh", sys.executable, "-c", PROGRAM], cwd=ROOT).returncode
        == 7
    )


def test_what_can_be_written_is(capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout, sys.stderr
    with unbreakable():
        print("out")
        print("err", file=sys.stderr)
        assert sys.stdout.isatty() is False
    assert (sys.stdout, sys.stderr) == before
    assert capsys.readouterr() == ("out\n", "err\n")
