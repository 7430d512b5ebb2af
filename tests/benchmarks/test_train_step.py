"""What the benchmark of training steps tells beside their time."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from benchmarks.results_page import Figures
from benchmarks.results_tables import missed_steps
from benchmarks.train_step import ROWS, Stepper, dense_gradient_seconds


@pytest.mark.parametrize(("name", "dense"), [("static", True), ("random_static", False)])
def test_the_dense_gradient_is_timed_where_there_is_one(name: str, dense: bool) -> None:
    torch.manual_seed(0)
    row = replace(ROWS[name], batch=4)
    stepper = Stepper(row.make(), row, row.batch, fused=True)
    taken = dense_gradient_seconds(stepper, 2)
    assert stepper.done == 2
    assert taken > 0 if dense else taken == 0


def row_of(aim: float | None, reached: float) -> dict[str, Any]:
    return {
        "words": "static",
        "image_size": 32,
        "aim": aim,
        "milliseconds": {"ours": [90.0, 100.0, 500.0], "plain": [400.0, 400.0, 800.0]},
        "ratio": {"median": reached},
        "medium_ratio": {"median": 5.25},
        "dense_gradient_milliseconds": 61.6,
    }


def test_steps_below_their_aim_are_told_with_what_holds_them() -> None:
    rows = {"missed": row_of(5, 4.02), "reached": row_of(4, 4.02), "free": row_of(None, 4.02)}
    figures = cast("Figures", SimpleNamespace(value=lambda path: {"train_step/rows": rows}[path]))
    assert missed_steps(figures).splitlines()[2:] == ["| static, 32x32 | 5 | 4.0 | 5.2 | 100 | 62 | 80 |"]
    del rows["missed"]
    assert missed_steps(figures) == "Every aim is reached."
