from __future__ import annotations

from pathlib import Path

import pytest

from genutil.errors import UserError
from genutil.run import run
from genutil.saved import snapshots
from genutil.training.snapshots import due_steps
from tests.genutil.runs import tiny, weights


@pytest.mark.parametrize(
    ("count", "steps", "per_epoch", "due"),
    [
        (0, 100, 10, []),
        (1, 100, 10, [100]),
        (2, 100, 10, [0, 100]),
        (3, 100, 10, [0, 50, 100]),
        (4, 100, 10, [0, 30, 70, 100]),
        (5, 30, 10, [0, 8, 15, 22, 30]),
        (12, 4, 4, [0, 1, 2, 3, 4]),
        (6, 105, 10, [0, 20, 40, 60, 80, 105]),
        (12, 0, 10, []),
    ],
)
def test_when_they_are_due(count: int, steps: int, per_epoch: int, due: list[int]):
    assert sorted(due_steps(count, steps, per_epoch)) == due


def files(folder: str | Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((Path(folder) / "snapshots").iterdir())}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    run(tiny(folder, snapshots=4, num_epochs=2, checkpoint_interval=1, threads=1))
    return folder / "checkpoints" / "tiny"


def test_a_training_keeps_as_many_as_it_is_told(whole: Path):
    found = snapshots.read(whole)
    assert [snapshot.epoch for snapshot in found] == sorted({0.0, *(s.epoch for s in found), 2.0})
    assert len(found) == 4
    first, last = (snapshot.acting["graph"] for snapshot in (found[0], found[-1]))
    assert (first != last).any(), "edges were swapped"


def test_they_change_nothing_of_the_training(whole: Path, tmp_path: Path):
    run(tiny(tmp_path, snapshots=0, num_epochs=2, threads=1))
    without = weights(tmp_path / "checkpoints" / "tiny" / "last.pt")
    assert not (tmp_path / "checkpoints" / "tiny" / "snapshots").exists()
    assert all((value == without[name]).all() for name, value in weights(whole / "last.pt").items())


def test_a_resumed_run_has_the_same_ones_and_no_doubles(whole: Path, tmp_path: Path):
    run(tiny(tmp_path, resume=str(whole / "epoch_1.pt"), snapshots=4, num_epochs=2, threads=1))
    assert files(tmp_path / "checkpoints" / "tiny") == files(whole)


def test_a_network_without_wiring_keeps_none(tmp_path: Path):
    of = tiny(tmp_path, model="vgg", depth=11, wiring="complete", width_mult=0.05, image_size=32, num_steps=1)
    run(of.but(skip_profiling=True))
    assert not (tmp_path / "checkpoints" / "tiny" / "snapshots").exists()


def test_their_size_is_told_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run(tiny(tmp_path, snapshots=3, num_epochs=1))
    told = [line for line in capsys.readouterr().out.splitlines() if "napshots" in line]
    assert len(told) == 1
    assert told[0].startswith("3 snapshots of the acting edges, about 1 kB each, go to ")


def test_where_they_cannot_be_written_training_goes_on(tmp_path: Path, monkeypatch, capsys):
    def refuse(*_: object) -> int:
        raise UserError("Cannot write it: No space left on device.")

    monkeypatch.setattr("genutil.saved.snapshots.write", refuse)
    run(tiny(tmp_path, snapshots=3, num_epochs=1))
    out = capsys.readouterr().out
    assert out.count("No space left on device. Training goes on without snapshots.") == 1
    assert (tmp_path / "checkpoints" / "tiny" / "last.pt").exists()
