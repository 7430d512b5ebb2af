"""Calls that take turns in processes of their own: what waits does not run, what fails is left out."""

from __future__ import annotations

import os
import sys
import threading
import time
from functools import partial
from pathlib import Path

import pytest

from benchmarks import turns
from benchmarks.turns import Turns, summary

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def note(path: Path):
    """A call that writes down its process."""
    path.write_text(str(os.getpid()))
    return partial(time.sleep, 0.001)


def spin(path: Path):
    """A call that leaves a busy thread behind."""

    def forever() -> None:
        while True:
            pass

    threading.Thread(target=forever, daemon=True).start()
    return note(path)


def watch(path: Path, out: Path):
    """A call that writes down the processor time of another process before and after it."""

    def call() -> None:
        pid = int(path.read_text())
        before = processor_time(pid)
        time.sleep(0.05)
        with out.open("a") as file:
            file.write(f"{before} {processor_time(pid)}\n")

    return call


def processor_time(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def sleep_for(seconds: float):
    return partial(time.sleep, seconds)


def refuse():
    raise ValueError("not here")


def miss():
    import no_such_package  # noqa: F401


def crash():
    os._exit(3)


def crash_later():
    calls = []

    def call() -> None:
        calls.append(None)
        if len(calls) > 1:
            os._exit(4)

    return call


def test_a_turn_is_the_time_of_a_call():
    with Turns({"short": partial(sleep_for, 0.002), "long": partial(sleep_for, 0.05)}) as found:
        assert list(found.costs) == ["short", "long"]
        for _ in range(2):
            taken = found.take()
            assert list(taken) == ["short", "long"]
            assert 0.002 <= taken["short"] < taken["long"]
            assert taken["long"] >= 0.05


def test_what_waits_does_not_run(tmp_path):
    pid, out = tmp_path / "pid", tmp_path / "out"
    with Turns({"busy": partial(spin, pid), "watch": partial(watch, pid, out)}) as found:
        found.take()
        found.take()
        assert processor_time(int(pid.read_text())) > 0
    lines = [line.split() for line in out.read_text().splitlines()]
    assert len(lines) > 3
    assert all(before == after for before, after in lines)


def test_leaving_ends_the_processes(tmp_path):
    def alive(pid: int) -> bool:
        return Path(f"/proc/{pid}").exists()

    def interrupted() -> None:
        with Turns({"one": partial(note, tmp_path / "pid")}):
            assert alive(int((tmp_path / "pid").read_text()))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    pid = int((tmp_path / "pid").read_text())
    for _ in range(200):
        if not alive(pid):
            break
        time.sleep(0.01)
    assert not alive(pid)


def test_what_cannot_be_made_is_left_out_with_its_reason():
    makers = {"one": partial(sleep_for, 0.001), "refused": refuse, "missing": miss, "crashed": crash}
    with Turns(makers) as found:
        assert list(found.costs) == ["one"]
        assert found.left_out == {
            "refused": "ValueError: not here",
            "missing": "the package no_such_package is not installed",
            "crashed": "its process ended with status 3",
        }
        assert list(found.take()) == ["one"]


def test_a_process_that_ends_in_its_turn_is_named():
    with Turns({"weak": crash_later}) as found, pytest.raises(ChildProcessError, match=r"weak: .* ended with status 4"):
        found.take()


def test_short_calls_are_repeated(monkeypatch):
    calls = []
    monkeypatch.setattr(turns, "MOMENT", 0.02)
    seconds = turns._turn(lambda: calls.append(time.sleep(0.001)))
    assert len(calls) > 4
    assert len(calls) % 2 == 0
    assert 0.001 <= seconds < 0.02


def test_a_summary_is_median_and_quartiles():
    assert summary([1.0]) == {"median": 1.0, "low": 1.0, "high": 1.0}
    assert summary([4.0, 1.0, 2.0, 3.0, 5.0]) == {"median": 3.0, "low": 2.0, "high": 4.0}
