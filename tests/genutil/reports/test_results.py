"""Results files of finished trainings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from genutil.errors import UserError
from genutil.reports.results import VERSION, best, curve, differences, portable, read, require_folder, seconds, write
from tests.genutil.runs import tiny


def record(epoch: int, **values: Any) -> dict[str, Any]:
    figures = {"validation_top1": 50.0 + epoch, "validation_loss": 1 / 3, "validated_on": "test", "seconds": 2.0}
    return {"epoch": epoch, "step": 10 * epoch, "lr": 0.1, "train_loss": 2 / 3, "train_top1": 40.0, **figures, **values}


def result(folder: Path, **settings: Any) -> dict[str, Any]:
    saved = tiny(folder, **settings).to_saved()
    return {
        "version": VERSION,
        "experiment": "of/tiny",
        "settings": saved,
        "curve": curve([record(1), record(2)]),
    }


def test_a_curve_has_the_validations_as_columns() -> None:
    found = curve([record(1), {"epoch": 2, "step": 15, "lr": 0.1, "train_loss": 0.5}, record(2, edges_swapped=7)])
    assert found["epoch"] == [1, 2]
    assert found["top1"] == [51.0, 52.0]
    assert found["train_loss"] == [0.666667, 0.666667]
    assert found["edges_swapped"] == [None, 7]
    assert "live_nodes" not in found


def test_seconds_are_those_of_validations_and_of_what_came_after() -> None:
    progress = {"history": [record(1), {"epoch": 2}, record(2)], "totals": {"seconds": 0.5}}
    assert seconds(progress) == 4.5
    assert seconds({"totals": {"seconds": 0.5}}) == 0.5


def test_the_best_weights_are_known_on_test_images_only_where_those_chose_them() -> None:
    progress = {"best": {"epoch": 2, "top1": 52.0}}
    assert best(progress, True, "test") == {"epoch": 2, "top1": 52.0, "chosen_on": "test", "test_top1": 52.0}
    assert best(progress, False, "validation")["test_top1"] is None
    assert best({"best": None}, True, "test") is None


def test_differences_leave_out_what_has_no_effect_and_what_data_fill_in() -> None:
    wanted = {"lr": 0.1, "mean": None, "stage_graphs": [], "workers": 4, "name": "a", "seed": 0}
    found = {"lr": 0.2, "mean": [0.5], "stage_graphs": ["…"], "workers": 0, "name": "b", "seed": 0, "later": 1}
    assert differences(wanted, found) == {"lr": (0.1, 0.2)}
    assert differences({"mean": [0.4]}, found) == {"mean": ([0.4], [0.5])}


def test_settings_are_kept_without_the_places_of_files() -> None:
    settings = {
        "lr": 0.1,
        "save_dir": "/a",
        "use_graph": "/a/b/c.pt",
        "use_init": None,
        "graph_files": ["/a/b/c/0.txt"],
    }
    expected = {"lr": 0.1, "use_graph": "b/c.pt", "use_init": None, "graph_files": ["c/0.txt"]}
    assert portable(settings) == expected
    assert differences(settings, expected) == {}


def test_a_run_has_one_file_and_another_run_its_own(tmp_path: Path) -> None:
    first = write(tmp_path / "results", result(tmp_path))
    assert first == tmp_path / "results" / "of" / "tiny" / "2_epochs-seed_0.json"
    again = write(tmp_path / "results", result(tmp_path, name="elsewhere", workers=0))
    other = write(tmp_path / "results", result(tmp_path, lr=0.2))
    assert again == first
    assert other.name == "2_epochs-seed_0-2.json"
    assert write(tmp_path / "results", result(tmp_path, lr=0.2)) == other
    assert write(tmp_path / "results", result(tmp_path, num_steps=5, seed=3)).name == "5_steps-seed_3.json"
    assert read(first)["curve"]["top1"] == [51.0, 52.0]
    assert read(first)["settings"]["lr"] == 0.1


def test_a_column_of_the_curve_is_a_line(tmp_path: Path) -> None:
    text = write(tmp_path, result(tmp_path)).read_text()
    assert '    "epoch": [1, 2],\n' in text
    assert len(text.splitlines()) < 20


def test_folders_that_cannot_be_are_refused(tmp_path: Path) -> None:
    require_folder(tmp_path / "new" / "folder")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"Results cannot be written to .*results: .*file is no folder\."):
        require_folder(tmp_path / "file" / "results")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "cannot be read as a result"),
        ('{"top1": 1}', "is no result of a training"),
        (json.dumps({"version": VERSION + 1, "settings": {}}), "was written by a later version"),
    ],
)
def test_what_is_no_result_is_said(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "some.json"
    path.write_text(text)
    with pytest.raises(UserError, match=said):
        read(path)
    with pytest.raises(UserError, match="cannot be read as a result"):
        read(tmp_path / "absent.json")
