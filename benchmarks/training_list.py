"""The table of a queue: what is done, running and missing, and how long it takes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from benchmarks.training_process import Machine, waits_for
from benchmarks.training_state import DONE, MISSING, RUNNING, STARTED, Pace, Places, State, paces, seconds_left

HEADS = ("training", "length", "state", "epochs", "s an epoch", "left")


def listing(states: Sequence[State], places: Places, machine: Machine, parallel: int) -> str:
    """A line a training, and the time that all of them take together.

    Seconds are those of the training itself, or of another one of its kind; "?" where none was measured.

    Args:
        states: of the trainings in their order.
        places: of the queue.
        machine: of the queue.
        parallel: trainings at once.
    """
    known = paces(states)
    rows, total, unknown = [], 0.0, 0
    for state in states:
        pace = known.get((state.kind.experiment, state.kind.changes))
        waits = waits_for(state.run, places, machine) if state.what == MISSING else None
        left = seconds_left(state, pace)
        rows.append([state.run.name, state.kind.length(), _words(state, waits), *_figures(state, pace, left)])
        if state.what != DONE and waits is None:
            total, unknown = total + (left or 0.0), unknown + (left is None)
    widths = [max(map(len, column)) for column in zip(HEADS, *rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    head = "  ".join(cell.ljust(width) for cell, width in zip(HEADS, widths, strict=True)).rstrip()
    faults = [f"{state.run.name}: {state.fault}" for state in states if state.fault]
    return "\n".join([head, *lines, *faults, _sum(states, total, unknown, parallel)])


def _words(state: State, waits: str | None) -> str:
    return f"{RUNNING} ({state.process})" if state.what == RUNNING else waits or state.what


def _figures(state: State, pace: Pace | None, left: float | None) -> list[str]:
    per_step = state.seconds_per_step or (pace.seconds_per_step if pace else None)
    per_epoch = state.steps_per_epoch or (pace.steps_per_epoch if pace else None)
    seconds = f"{per_step * per_epoch:.1f}" if per_step and per_epoch else "?"
    return [f"{state.epochs:.4g}" if state.what in (DONE, RUNNING, STARTED) else "", seconds, _duration(left)]


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "?"
    return str(timedelta(seconds=round(seconds))) if seconds else ""


def _sum(states: Sequence[State], total: float, unknown: int, parallel: int) -> str:
    done = sum(state.what == DONE for state in states)
    text = f"{done} of {len(states)} trainings are done. Left here: {_duration(total / parallel) or 'nothing'}"
    text += f" with {parallel} at once" if parallel > 1 and total else ""
    return f"{text}, and {unknown} of unknown length." if unknown else f"{text}."
