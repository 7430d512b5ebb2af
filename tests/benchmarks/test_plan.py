"""The plan's figures are those that the page says, and its arithmetic is what it claims to be."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from benchmarks import plan
from benchmarks.plan import Machines, Need, all_reduce_bytes, interruptions, interval, step
from tests.docs.pages import ROOT

KEPT = json.loads((ROOT / "benchmarks" / "results" / "plan.json").read_text())


@pytest.mark.slow
def test_the_kept_figures_are_what_the_script_computes() -> None:
    """`tests/docs/test_results_page.py` compares the page with the kept ones."""
    computed = json.loads(json.dumps(plan.everything()))
    assert computed.keys() == KEPT.keys() - {"measured"}
    assert computed["machines"] == KEPT["machines"]
    for name, row in computed["plans"].items():
        for key, value in row.items():
            assert value == pytest.approx(KEPT["plans"][name][key], rel=1e-9), f"{name}: {key}"
    for key in ("images", "image_bytes", "decoded_by_a_core", "cores_of_a_gpu"):
        assert computed[key] == pytest.approx(KEPT[key], rel=1e-9)


def test_the_page_has_the_kept_figures() -> None:
    page = (ROOT / "docs" / "many_machines.md").read_text()
    for row in KEPT["plans"].values():
        assert f"**{1e3 * row['step']['seconds']:.1f} ms**" in page
        assert f"{row['checkpoint_bytes'] / 1e6:.0f} MB" in page


def test_a_ring_sends_what_it_must() -> None:
    assert all_reduce_bytes(100, 1) == 0
    assert all_reduce_bytes(100, 2) == 100
    assert all_reduce_bytes(1000, 8) == pytest.approx(1750)


def test_a_step_takes_the_longer_of_operations_and_memory() -> None:
    machines = Machines(count=2, gpus=4, flops=1e12, memory=1e10, link=1e9, network=1e8, latency=1e-3, reached=0.5)
    need = Need(parameters=1_000_000, multiply_adds=1_000_000, saved_bytes=1e6, norms=10)
    times = step(need, batch=80, machines=machines)  # 10 images a GPU
    assert times["operations"] == pytest.approx(6 * 1e6 * 10 / 1e12)
    assert times["memory"] == pytest.approx(5 * 1e6 * 10 / 1e10)
    assert times["compute"] == pytest.approx(times["memory"] / 0.5)
    assert times["exchange"] == pytest.approx(1.5 * 4e6 / 1e9 + 1 * 4e6 / 1e8)
    assert times["norms"] == pytest.approx(3 * 10 * 1e-3)
    assert times["seconds"] == pytest.approx(times["compute"] + times["norms"] + times["exchange"])
    fast = Machines(count=2, gpus=4, flops=1e9, memory=1e10)
    assert step(need, 80, fast)["compute"] == pytest.approx(6 * 1e6 * 10 / 1e9 / fast.reached)


def test_interruptions_cost_half_an_interval_and_a_restart() -> None:
    found = interruptions(rate=1 / 3600, seconds=36_000, every=600, restart=100)
    assert found == pytest.approx({"mean_hours": 1, "count": 10, "lost_seconds": 4000, "lost_share": 1 / 9})
    assert interval(2, 900) == pytest.approx(60)


def test_what_backward_needs_of_images_is_counted_once() -> None:
    """The images, and the planes that two layers share; no weights."""

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return (self.first(images) + self.second(images)).sum((2, 3))

    assert plan._saved_bytes(Twice(), torch.randn(2, 3, 5, 5)) == 4 * 2 * 3 * 5 * 5
