"""Results files of trainings: written at their end, or from their last checkpoint."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import runner
from genutil.config import Experiment
from genutil.errors import UserError
from genutil.run import run
from genutil.saved import checkpoints
from tests.genutil.runs import tiny

pytestmark = pytest.mark.usefixtures("one_thread")
OLD = Path(__file__).parents[2] / "data_of_old_states"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The folder and the results of a run with validation images and a checkpoint after each epoch."""
    folder = tmp_path_factory.mktemp("trained")
    settings = {"num_epochs": 3, "checkpoint_interval": 1, "validation_share": 0.2, "experiment": "of/tiny"}
    return folder, run(tiny(folder, results_dir=str(folder / "results"), **settings))


def evaluate(checkpoint: str | Path, folder: Path, **settings: Any) -> dict[str, Any]:
    """What the results file of a checkpoint's evaluation holds."""
    given = {"resume": str(checkpoint), "evaluate": True, "gpus": [], "results_dir": str(folder), **settings}
    found = run(Experiment.from_saved(checkpoints.read(checkpoint)["settings"], given))
    return json.loads(Path(found["result"]).read_text())


def test_a_result_holds_what_the_training_was_and_reached(trained: tuple[Path, dict], capsys) -> None:
    folder, results = trained
    found = json.loads((folder / "results" / "of" / "tiny" / "3_epochs-seed_0.json").read_text())
    assert results["result"] == str(folder / "results" / "of" / "tiny" / "3_epochs-seed_0.json")
    assert (found["experiment"], found["seed"]) == ("of/tiny", 0)
    steps = found["run"]["steps_per_epoch"]
    assert found["run"] == {"epochs": 3.0, "steps": 3 * steps, "steps_per_epoch": steps}
    assert found["last"] == {key: results[key] for key in ("top1", "top5", "loss")}
    assert found["test_images"] == 364
    assert found["best"]["chosen_on"] == "validation"
    assert found["profile"]["edges"]["live"] <= found["profile"]["edges"]["acting"]
    assert found["profile"]["nodes"]["live_nodes"] > 0
    assert found["curve"]["epoch"] == [1, 2, 3]
    assert found["curve_from_epoch"] == 1
    assert found["seconds"] == pytest.approx(sum(found["curve"]["seconds"]), rel=1e-4)
    assert [piece["step"] for piece in found["pieces"]] == [0]
    assert found["pieces"][0]["threads"] == 1
    assert "save_dir" not in found["settings"]


def test_the_best_weights_chosen_on_validation_images_are_evaluated_on_test_images(trained, tmp_path: Path) -> None:
    folder, results = trained
    found = json.loads(Path(results["result"]).read_text())
    settings = checkpoints.read(results["checkpoint"])["settings"]
    given = {"resume": str(folder / "checkpoints" / "tiny" / "best.pt"), "evaluate": True, "gpus": []}
    assert found["best"]["test_top1"] == run(Experiment.from_saved(settings, given))["top1"]


def test_the_last_checkpoint_gives_the_same_result(trained: tuple[Path, dict], tmp_path: Path) -> None:
    _, results = trained
    found = evaluate(results["checkpoint"], tmp_path)
    same = json.loads(Path(results["result"]).read_text())
    for one in (found, same):
        one["recorded"].pop("date")
    assert found["last"].pop("loss") == pytest.approx(same["last"].pop("loss"))
    assert found == same


def test_a_resumed_training_has_the_whole_curve_and_both_machines(trained, tmp_path: Path, monkeypatch) -> None:
    folder, results = trained
    monkeypatch.setattr("genutil.run.machine", lambda *_: {"processor": "another"})
    places = {"save_dir": str(tmp_path / "checkpoints"), "log_dir": str(tmp_path / "runs"), "gpus": []}
    start = folder / "checkpoints" / "tiny" / "epoch_1.pt"
    given = {**places, "resume": str(start), "results_dir": str(tmp_path / "results")}
    again = run(Experiment.from_saved(checkpoints.read(start)["settings"], given))
    found, whole = (json.loads(Path(one["result"]).read_text()) for one in (again, results))
    for one in (found, whole):
        one["curve"].pop("seconds")
    assert found["curve"] == whole["curve"]
    assert [piece["step"] for piece in found["pieces"]] == [0, whole["run"]["steps_per_epoch"]]
    assert found["pieces"][1]["processor"] == "another"


def test_a_checkpoint_without_a_curve_says_where_its_curve_begins(trained, tmp_path: Path) -> None:
    folder, _ = trained
    contents = checkpoints.read(folder / "checkpoints" / "tiny" / "epoch_2.pt")
    for key in ("history", "pieces"):
        del contents["progress"][key]
    torch.save(contents, tmp_path / "old.pt")
    places = {"save_dir": str(tmp_path / "checkpoints"), "log_dir": str(tmp_path / "runs"), "gpus": []}
    given = {**places, "resume": str(tmp_path / "old.pt"), "results_dir": str(tmp_path)}
    again = run(Experiment.from_saved(contents["settings"], given))
    found = json.loads(Path(again["result"]).read_text())
    assert (found["curve_from_epoch"], found["curve"]["epoch"]) == (3, [3])
    assert [piece["step"] for piece in found["pieces"]] == [2 * found["run"]["steps_per_epoch"]]


def test_a_checkpoint_of_earlier_code_gives_a_result_under_the_name_it_is_given(tmp_path: Path) -> None:
    path = shutil.copy(OLD / "static.pt", tmp_path / "last.pt")
    found = evaluate(path, tmp_path / "results", experiment="quickstart")
    assert found["experiment"] == "quickstart"
    assert found["pieces"] == []
    assert (found["best"]["chosen_on"], found["best"]["test_top1"]) == ("validation", None), "best.pt is not there"
    assert found["curve"]["epoch"] == [1, 2]
    assert (found["planned"]["epochs"], found["shortened"]) == (30, True)


def test_only_finished_trainings_have_a_result(trained, tmp_path: Path) -> None:
    folder, _ = trained
    with pytest.raises(UserError, match=r"is \d+ of \d+ steps trained: results_dir keeps finished trainings\."):
        evaluate(folder / "checkpoints" / "tiny" / "epoch_2.pt", tmp_path / "results")
    assert not (tmp_path / "results").exists()


def test_only_trainings_on_all_data_have_a_result(tmp_path: Path) -> None:
    short = run(tiny(tmp_path, num_epochs=1, only_batches=2))
    with pytest.raises(UserError, match="was trained in epochs of 2 steps"):
        evaluate(short["checkpoint"], tmp_path / "results")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--profile"], "results_dir keeps what a training reached, and profile does not train."),
        (["--only_batches", "2"], "results_dir keeps whole trainings, and only_batches tries one out."),
        (["--evaluate", "--fast_eval"], "results_dir keeps what the network itself reaches: leave out fast_eval."),
    ],
)
def test_what_gives_no_result_is_refused(words: list[str], said: str, tmp_path: Path, capsys) -> None:
    assert runner.main(["app:quickstart", "--results_dir", str(tmp_path / "results"), *words]) == 2
    assert capsys.readouterr().err == said + "\n"


def test_a_file_in_the_place_of_the_folder_is_refused_before_training(tmp_path: Path, capsys) -> None:
    (tmp_path / "results").write_text("")
    places = ["--save_dir", str(tmp_path / "checkpoints"), "--log_dir", str(tmp_path / "runs")]
    assert runner.main(["app:quickstart", *places, "--results_dir", str(tmp_path / "results")]) == 2
    assert "is no folder" in capsys.readouterr().err
    assert not (tmp_path / "checkpoints").exists()
