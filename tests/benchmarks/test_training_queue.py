"""The queue of trainings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.training_queue import QUEUE, read, runs
from genutil.errors import UserError
from genutil.settings.app_files import app_name, experiments


def queue(folder: Path, *entries: Any) -> Path:
    path = folder / "queue.yml"
    path.write_text(yaml.safe_dump(list(entries)))
    return path


def test_every_experiment_is_in_the_queue() -> None:
    entries = read()
    assert {entry.experiment for entry in entries} == {app_name(path) for path in experiments()} - {"quickstart"}
    assert [run.name for run in runs(entries)][:3] == ["static_dnw-0", "static_dnw-1", "static_dnw-2"]


def test_runs_have_folders_of_their_own_on_every_kind_of_machine() -> None:
    for device in ("cpu", "gpu"):
        names = [run.name for run in runs(read()) if run.entry.device in (None, device)]
        assert len(names) == len(set(names))


def test_places_are_filled_in(tmp_path: Path) -> None:
    path = queue(
        tmp_path,
        {"experiment": "quickstart", "name": "first", "seeds": [0, 7]},
        {
            "experiment": "medium_scale/mobilenetv1_ft_x225",
            "settings": {"use_graph": "{checkpoints}/first-{seed}/last.pt", "lr": 0.2},
            "after": "first",
            "seeds": [7],
        },
    )
    found = runs(read(path))
    assert [run.name for run in found] == ["first-0", "first-7", "mobilenetv1_ft_x225-7"]
    stated = found[2].entry.stated(7, Path("c"))
    assert stated == {"use_graph": "c/first-7/last.pt", "lr": 0.2, "seed": 7}
    settings = found[2].entry.resolved(7, Path("c"))
    assert (settings["lr"], settings["seed"], settings["num_epochs"]) == (0.2, 7, 160)


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        (["quickstart"], "Entry 1 of .* names no experiment"),
        ([{"experiment": "quickstrat"}], "Entry 1 of .*: There is no app quickstrat; the nearest is quickstart"),
        ([{"experiment": "quickstart", "seed": 1}], "has the key seed; the nearest is seeds"),
        ([{"experiment": "quickstart", "seeds": 1}], "has the seeds 1; they are a list"),
        ([{"experiment": "quickstart", "seeds": [True]}], "has the seeds"),
        ([{"experiment": "quickstart", "seeds": [1, 1]}], "has one seed twice"),
        ([{"experiment": "quickstart", "device": "tpu"}], "has the device tpu; it is cpu or gpu"),
        ([{"experiment": "quickstart", "settings": {"seed": 1}}], "seed is none of them"),
        ([{"experiment": "quickstart", "settings": {"lr": "fast"}}], "Entry 1 of .* must be"),
        ([{"experiment": "quickstart", "settings": {"use_graph": "{folder}"}}], "to be filled in, and nothing else"),
        ([{"experiment": "quickstart"}] * 2, "Entry 2 of .* has the name quickstart of one before it"),
        ([{"experiment": "quickstart", "after": "x"}], "comes after x, and no entry before it has that name"),
        ([], "is no list of entries"),
    ],
)
def test_mistakes_are_told(tmp_path: Path, entries: list[Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        read(queue(tmp_path, *entries))


def test_a_file_that_is_no_queue_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read(tmp_path / "absent.yml")
    (tmp_path / "queue.yml").write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        read(tmp_path / "queue.yml")


def test_the_queue_lies_beside_its_reader() -> None:
    assert QUEUE.name == "queue.yml"
    assert QUEUE.parent.name == "benchmarks"
