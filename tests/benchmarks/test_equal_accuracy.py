"""The curve of dense networks, and how wired ones compare with it."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from benchmarks.equal_accuracy import curve_at, faster_engines, ratios
from benchmarks.results_page import Figures
from benchmarks.results_tables import equal_accuracy, missed_curve, native_phases
from docs.pictures.equal_accuracy import picture
from docs.pictures.wiring import save


def test_the_curve_goes_through_the_fastest_networks():
    points = [(50.0, 1.0), (60.0, 2.0), (70.0, 4.0)]
    assert curve_at(50, points) == 1
    assert curve_at(60, points) == 2
    assert curve_at(65, points) == pytest.approx(3)
    assert curve_at(70, points) == 4
    slow = [*points, (65.0, 3.5)]
    assert curve_at(65, slow) == pytest.approx(3)
    assert curve_at(65, [*points, (65.0, 2.2)]) == pytest.approx(2.2)


def test_a_straight_line_may_pass_over_slow_networks_and_better_ones():
    assert curve_at(60, [(50.0, 1.0), (60.0, 5.0), (70.0, 3.0)]) == pytest.approx(2)


@pytest.mark.parametrize("accuracy", [49.9, 70.1])
def test_there_is_no_curve_beyond_the_networks(accuracy):
    with pytest.raises(ValueError, match="no dense networks"):
        curve_at(accuracy, [(50.0, 1.0), (70.0, 4.0)])


TIMES = {
    "x225": [1.0, 2.0],
    "shufflenetv2_x05 onnx": [2.0, 3.0],
    "shufflenetv2_x05 openvino": [3.0, 1.0],
    "shufflenetv2_x1 onnx": [9.1, 9.1],
    "shufflenetv2_x1 openvino": [8.0, 9.0],
}


def test_the_faster_engine_is_that_of_the_lower_median():
    assert faster_engines(TIMES) == {
        "shufflenetv2_x05": "shufflenetv2_x05 openvino",
        "shufflenetv2_x1": "shufflenetv2_x1 openvino",
    }


def test_ratios_are_taken_turn_by_turn():
    share = (60.9 - 60.3) / (69.4 - 60.3)
    turns = [(3 + share * 5) / 1, (1 + share * 8) / 2]
    found = ratios(TIMES, ["x225"])["x225"]
    assert found["median"] == pytest.approx(sum(turns) / 2)
    assert found["low"] < found["median"] < found["high"]


def timed(name, kind, cost, *seconds):
    phases = dict(zip(("COPIES", "SUMS", "NODES"), seconds, strict=True))
    return {"level": name, "kind": kind, "multiply_adds": cost, "seconds": phases}


@pytest.fixture
def figures(tmp_path):
    """Two cells, in one of which the aim is missed."""
    cells = []
    for threads, own in ((1, 1.0), (2, 3.0)):
        times = {**TIMES, "x225": [own, own]}
        summaries = {name: {"median": values[1], "low": values[0], "high": values[1]} for name, values in times.items()}
        cell = {"batch": 1, "threads": threads, "milliseconds": summaries}
        cells.append(cell | {"faster": faster_engines(times), "ratio": ratios(times, ["x225"])})
    results = {
        "aim": 1.2,
        "wired": {"x225": {"accuracy": 60.9}},
        "dense": {
            "shufflenetv2_x05": {"words": "ShuffleNetV2 x0.5", "accuracy": 60.3},
            "shufflenetv2_x1": {"words": "ShuffleNetV2 x1", "accuracy": 69.4},
        },
        "cells": cells,
    }
    (tmp_path / "equal_accuracy.json").write_text(json.dumps(results))
    levels = [
        timed("input", None, 0, 1e-6, 0, 0),
        timed("stem", "SUM_ROWS", 100, 2e-6, 3e-6, 4e-6),
        timed("stage", "SUM_PLANES", 50_000, 0, 5e-6, 6e-6),
        timed("last", "SUM_VALUES_DENSE", 100, 0, 8e-6, 0),
    ]
    timing = {"wiring": "x225", "peak_gmacs_a_thread": {"median": 100.0}, "timings": levels}
    untimed = {"wiring": "x3", "peak_gmacs_a_thread": {"median": 100.0}, "batch": 1, "threads": 1}
    evaluated = [timing | {"batch": batch, "threads": threads} for batch in (1, 32) for threads in (1, 2)]
    (tmp_path / "evaluate.json").write_text(json.dumps({"cells": [*evaluated, untimed]}))
    (tmp_path / "queue.yml").write_text("- {experiment: quickstart, seeds: [0]}\n")
    return Figures(tmp_path, tmp_path / "none", tmp_path / "queue.yml")


def test_tables_show_ratios_and_what_is_missed(figures):
    heads, _, first, second = equal_accuracy(figures).splitlines()
    assert heads == "| threads | batch | x225 (60.9 %), ms | x225, times as fast |"
    assert first.startswith("| 1 | 1 | 1.00 | 2.4")
    assert second.startswith("| 2 | 1 | 3.00 | 0.8")
    missed = missed_curve(figures).splitlines()[2:]
    assert len(missed) == 1
    assert missed[0].startswith("| x225 | 2 | 1 | 1.2 | 0.8")


def test_the_table_of_phases_adds_up_levels(figures):
    rows = native_phases(figures).splitlines()[2:]
    assert rows == [f"| x225 | {threads} | 3 | 3 | 5 | 8 | 10 | 10 % |" for threads in (1, 2)]


def test_the_picture_is_drawn(figures, tmp_path):
    save(picture(figures.files["equal_accuracy"]), tmp_path / "picture.png")
    with Image.open(tmp_path / "picture.png") as image:
        assert image.width > 500
        colours = {colour for _, colour in image.convert("RGBA").getcolors(1 << 24)}
    assert len(colours) > 20
