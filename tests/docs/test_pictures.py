"""The picture of trained wirings is drawn from what was trained."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from docs.pictures import learned_wirings
from genutil.run import run
from tests.genutil.runs import tiny


def test_what_trained_wirings_look_like(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    for wiring in ("dnw", "random"):
        run(tiny(tmp_path, name=wiring, wiring=wiring, num_epochs=3, checkpoint_interval=1, snapshots=2))
    torch.set_num_threads(before)
    found = learned_wirings.measure([tmp_path / "checkpoints" / wiring for wiring in ("dnw", "random")])
    learned, random = found["runs"]
    assert (learned["wiring"], random["wiring"], learned["epochs"]) == ("dnw", "random", 3)
    for one in found["runs"]:
        assert sum(one["degrees"]) == one["nodes"] == 60
        assert sum(i * count for i, count in enumerate(one["degrees"])) == 2 * one["edges"]
        assert sum(one["lengths"]) == one["edges"]
        assert one["there"][-1] == {"epoch": 3.0, "share": 1.0}
    shares = [point["share"] for point in learned["there"]]
    assert 0 < shares[0] < 1
    assert [point["epoch"] for point in learned["there"]][:2] == [0.0, 1.0]
    assert {point["share"] for point in random["there"]} == {1.0}
    assert random["swapped"] == [0, 0, 0]
    assert len(learned["swapped"]) == 3
    # of one that is there no longer, as many were swapped at least
    lost = round((1 - shares[0]) * learned["edges"])
    assert lost <= sum(learned["swapped"])
    assert len(learned_wirings.picture(found).axes) == 4
    with pytest.raises(KeyError):
        learned_wirings.picture({"runs": [{**learned, "wiring": "unknown"}]})


def test_runs_that_are_not_finished_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tiny(tmp_path, name="short", num_epochs=1))
    checkpoint = torch.load(tmp_path / "checkpoints" / "short" / "last.pt", weights_only=True)
    checkpoint["settings"]["num_epochs"] = 3
    torch.save(checkpoint, tmp_path / "checkpoints" / "short" / "last.pt")
    monkeypatch.setattr("sys.argv", ["learned_wirings.py", "--runs", str(tmp_path / "checkpoints" / "short")])
    monkeypatch.setattr(learned_wirings, "RESULTS", tmp_path / "results.json")
    with pytest.raises(SystemExit):
        learned_wirings.main()
    assert "short is not finished: 6 of 18 steps" in capsys.readouterr().err
    assert not (tmp_path / "results.json").exists()


def test_runs_are_added_to_those_that_were_measured_before() -> None:
    old = {"settings": {"model": "static"}, "runs": [{"wiring": "dnw", "seed": 0}, {"wiring": "dnw", "seed": 1}]}
    new = {
        "settings": {"model": "static"},
        "runs": [{"wiring": "random", "seed": 0}, {"wiring": "dnw", "seed": 1, "a": 2}],
    }
    assert learned_wirings.added(new, old)["runs"] == [
        {"wiring": "dnw", "seed": 0},
        {"wiring": "dnw", "seed": 1, "a": 2},
        {"wiring": "random", "seed": 0},
    ]
    with pytest.raises(ValueError, match="cannot stand beside"):
        learned_wirings.added({**new, "settings": {"model": "discrete_time"}}, old)
