from __future__ import annotations

import numpy as np

from genutil.reports.wiring_table import COLUMNS, table_of_measures
from models.measures import measures
from models.wiring_graphs import WiringGraph

TRIANGLE = vars(measures(WiringGraph.acyclic(4, np.array([[0, 1], [1, 2], [0, 2]]))))


def test_a_line_for_each_stage_and_the_whole_at_the_end():
    head, *lines = table_of_measures({"": TRIANGLE, "a": TRIANGLE, "stages.b": TRIANGLE}).splitlines()
    assert [line.split()[0] for line in lines] == ["a", "stages.b", "whole"]
    assert len({len(line) for line in (head, *lines)}) == 1
    assert lines[0].split()[1:] == "3 3 2.0 0.0 2 1.000 1.000 1 1.0000 3 1.33 1".split()  # noqa: SIM905
    assert all(name in head for name in COLUMNS)


def test_a_single_wiring_has_a_line():
    assert [line.split()[0] for line in table_of_measures({"": TRIANGLE}).splitlines()] == ["wiring", "whole"]
