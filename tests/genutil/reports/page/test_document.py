from __future__ import annotations

import re

import numpy as np
import pytest

from genutil.reports.page.document import Content, plotly_script, read_data, render
from genutil.reports.page.latency import Latency
from genutil.reports.page.standing import kind_of, published, recorded
from tests.genutil.reports.page.samples import content


@pytest.fixture(scope="module")
def page() -> str:
    return render(content(2000))


def test_it_needs_nothing_else(page: str):
    own = page.replace(plotly_script(), "")
    assert not re.search(r"""(src|href)\s*=\s*["'](?!data:)""", own)
    assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest|https?://", own)


def test_nothing_of_the_template_is_left_open(page: str):
    assert not re.search(r"@(title|style|name|summary|facts|notices|sections|data|wiring|plotly|charts)@", page)
    assert page.count("</html>") == 1


def test_the_numbers_come_back(page: str):
    data = read_data(page)
    of = content(2000)
    (part,) = data["parts"]
    assert data["moments"] == list(of.moments)
    assert data["curve"]["top1"] == of.curve["top1"]
    assert part["counts"] == [[c.acting, c.live_edges, c.live_nodes] for c in of.parts[0].counts]
    live = of.parts[0].counts[-1].live_edges
    assert sum(part["lengths"]) == live
    degrees = np.arange(len(part["degrees_in"])) @ np.array(part["degrees_in"])
    assert degrees <= live


def test_what_is_not_there_is_left_out():
    page = render(Content("nothing", notices=["It was stopped early."]))
    assert "It was stopped early." in page
    for head in ("Wiring", "Curves", "What it costs", "Architecture", "Settings", "Among other networks"):
        assert f"<h2>{head}</h2>" not in page


def test_names_cannot_break_out_of_the_page():
    name = "</script><script>alert(1)</script>"
    page = render(Content(name, facts={name: name}, moments=[name], settings=name))
    assert name not in page
    assert read_data(page)["moments"] == [name]


def test_costs_stand_beside_what_was_measured():
    of = content(2000)
    latencies = [Latency("network", 2.0), Latency("native", 0.5), Latency("csr", None, "it did not run")]
    page = render(Content("x", profile=of.profile, dense_multiply_adds=8_000_000, latencies=latencies, machine="here"))
    assert "engine native" in page
    assert "4.00 times" in page
    assert "it did not run" in page
    assert f"promise {8_000_000 / of.profile.live_multiply_adds:.1f} times" in page


def test_published_networks_are_those_of_the_table():
    found = {one.name: one for one in published()}
    assert len(found) == 11
    one = found["MobileNet V1 DNW x0.225"]
    assert (one.kind, one.data, one.parameters, one.multiply_adds, one.top1) == (
        "learned",
        "imagenet",
        1.1e6,
        42.1e6,
        60.9,
    )


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        ({"wiring": "dnw"}, "learned"),
        ({"wiring": "random"}, "random"),
        ({"wiring": "complete", "model": "randwire"}, "random"),
        ({"wiring": "complete", "model": "vgg"}, "fixed"),
    ],
)
def test_kinds_of_wiring(settings: dict, kind: str):
    assert kind_of(settings) == kind


def test_recorded_trainings_are_read_and_others_left_out(tmp_path):
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "whole.json").write_text(
        '{"version": 1, "settings": {"data": "digits", "wiring": "dnw"}, "experiment": "quickstart", "seed": 3,'
        ' "profile": {"parameters": 5, "multiply_adds": 7}, "last": {"top1": 90.5}, "shortened": true}'
    )
    (one,) = recorded(tmp_path)
    assert (one.name, one.parameters, one.multiply_adds, one.top1) == ("quickstart, seed 3 (shortened)", 5, 7, 90.5)
