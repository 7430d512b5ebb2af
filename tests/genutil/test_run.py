"""A run from its experiment to its results."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torchvision.io import write_png

from genutil.build import build_network
from genutil.config import Experiment
from genutil.errors import UserError
from genutil.reports.logs import read_metrics
from genutil.run import run
from genutil.saved import checkpoints, loading
from genutil.saved.source import open_source
from genutil.training.loop import Training
from tests.genutil.parts import assert_equal
from tests.genutil.runs import tiny, weights

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_run_leaves_the_number_of_threads_as_it_was(tmp_path, capsys):
    run(tiny(tmp_path, profile=True, threads=2))
    assert torch.get_num_threads() == 1


@pytest.mark.parametrize("deterministic", [False, True])
def test_a_run_chooses_its_algorithms_and_leaves_them_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deterministic: bool
) -> None:
    def flags() -> tuple[bool, bool]:
        return torch.backends.cudnn.benchmark, torch.are_deterministic_algorithms_enabled()

    seen = []
    update = Training.update
    monkeypatch.setattr(Training, "update", lambda *given: seen.append(flags()) or update(*given))
    before = flags()
    run(tiny(tmp_path, num_epochs=1, only_batches=2, deterministic=deterministic))
    assert seen == [(not deterministic, deterministic)] * 2
    assert flags() == before


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The folder and the results of a run over four epochs, with a checkpoint after each."""
    folder = tmp_path_factory.mktemp("trained")
    experiment = tiny(folder, num_epochs=4, checkpoint_interval=1, json=str(folder / "results.json"))
    return folder, run(experiment)


def test_results_have_their_keys_and_are_written(trained: tuple[Path, dict]) -> None:
    folder, results = trained
    assert json.loads((folder / "results.json").read_text()) == results
    assert results["settings"]["lr"] == 0.1
    assert results["profile"]["parameters"] > 0
    assert results["profile"]["multiply_adds"] > 0
    assert 15 < results["top1"] <= results["top5"] <= 100
    assert results["images"] == 364
    assert results["loss"] > 0
    assert results["seconds"] > 0
    assert results["checkpoint"] == str(folder / "checkpoints" / "tiny" / "last.pt")
    assert Path(results["best"]["checkpoint"]).name == "best.pt"


def test_everything_is_where_it_says(trained: tuple[Path, dict]) -> None:
    folder, results = trained
    names = {path.name for path in (folder / "checkpoints" / "tiny").iterdir()}
    assert names == {
        "init.pt",
        "last.pt",
        "best.pt",
        "settings.yml",
        "snapshots",
        *(f"epoch_{n}.pt" for n in (1, 2, 3, 4)),
    }
    log = Path(results["log"])
    assert log.parent == folder / "runs"
    assert log.name.startswith("tiny-")
    records = read_metrics(log)
    assert [record["epoch"] for record in records] == [1, 2, 3, 4]
    assert records[-1]["validation_top1"] == results["top1"]
    assert all(record["edges_swapped"] > 0 and record["live_nodes"] > 0 for record in records)
    assert any(path.name.startswith("events.out.tfevents") for path in log.iterdir())


def test_the_settings_are_kept_with_the_normalisation_that_was_used(trained: tuple[Path, dict]) -> None:
    folder, results = trained
    kept = yaml.safe_load((folder / "checkpoints" / "tiny" / "settings.yml").read_text())
    assert kept == checkpoints.read(results["checkpoint"])["settings"]
    again = Experiment.from_settings(kept)
    assert len(again.mean) == len(again.std) == 1
    assert again.to_saved() == kept


def test_the_end_of_the_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = run(tiny(tmp_path, num_epochs=1))
    out, err = capsys.readouterr()
    assert "epoch 1/1  loss" in out
    assert "images/s" in out
    assert "epoch 1/1" not in err
    assert f"{results['profile']['parameters']:,} parameters" in out
    assert f"test images: top-1 {results['top1']:.2f} %" in out
    assert f"checkpoint: {results['checkpoint']}\nlog: {results['log']}\n" in out


@pytest.mark.parametrize("name", ["init", "epoch_1", "epoch_3"])
def test_a_resumed_run_ends_bit_for_bit_the_same(trained: tuple[Path, dict], tmp_path: Path, name: str) -> None:
    folder, results = trained
    start = folder / "checkpoints" / "tiny" / f"{name}.pt"
    saved = checkpoints.read(start)["settings"]
    places = {"save_dir": str(tmp_path / "checkpoints"), "log_dir": str(tmp_path / "runs"), "gpus": []}
    again = run(Experiment.from_saved(saved, {**places, "resume": str(start)}))
    assert_equal(weights(results["checkpoint"]), weights(again["checkpoint"]))
    assert (again["top1"], again["loss"], again["best"]["epoch"]) == (
        results["top1"],
        results["loss"],
        results["best"]["epoch"],
    )
    for mine, theirs in zip(read_metrics(again["log"]), read_metrics(results["log"]), strict=True):
        for record in (mine, theirs):
            record.pop("seconds"), record.pop("images_per_second")
        assert mine == theirs


def test_evaluation_needs_no_more_than_the_checkpoint(trained: tuple[Path, dict], tmp_path: Path) -> None:
    _, results = trained
    settings = checkpoints.read(results["checkpoint"])["settings"]
    evaluation = {"resume": results["checkpoint"], "evaluate": True, "gpus": [], "test_batch_size": 100}
    found = run(Experiment.from_saved(settings, evaluation))
    assert (found["top1"], found["top5"]) == (results["top1"], results["top5"])
    assert found["loss"] == pytest.approx(results["loss"])
    assert (found["checkpoint"], found["best"], found["log"]) == (results["checkpoint"], None, None)
    assert found["profile"] == results["profile"]


def as_in_2019(checkpoint: str, path: Path, idle: float) -> Path:
    """A checkpoint of `TINY` in the form of 2019, whose first 500 entries that can never act have the weight `idle`."""
    network = build_network(tiny(path.parent))
    loading.load_weights(open_source(checkpoint), network)
    state = {name: value for name, value in network.state_dict().items() if "wiring" not in name}
    layout = network.graph.layout
    matrix = layout.to_matrix(state["graph.weight"])
    row, column = (~layout.to_matrix(torch.ones(layout.possible, dtype=torch.bool))).nonzero()[:500].unbind(1)
    matrix[row, column] = idle
    state["graph.weight"] = matrix[:, :, None, None]
    contents = {"model": {f"module.{name}": value for name, value in state.items()}, "best_val": np.float64(27.0)}
    torch.save(contents, path, _use_new_zipfile_serialization=False)
    return path


def test_a_checkpoint_of_2019_is_evaluated_as_ours(trained: tuple[Path, dict], tmp_path: Path) -> None:
    folder, results = trained
    path = as_in_2019(results["checkpoint"], tmp_path / "epoch_3.pt", idle=0.0)
    found = run(tiny(folder, resume=str(path), evaluate=True))
    assert (found["top1"], found["loss"]) == (results["top1"], results["loss"])
    assert found["profile"] == results["profile"]


def test_the_edges_that_acted_in_2019_are_profiled(trained: tuple[Path, dict], tmp_path: Path) -> None:
    folder, results = trained
    path = as_in_2019(results["checkpoint"], tmp_path / "epoch_3.pt", idle=100.0)
    found = run(tiny(folder, resume=str(path), evaluate=True))
    kept = results["profile"]["edges"]["kept"]
    assert found["profile"]["edges"]["acting"] == kept - 500


def test_function_evaluations_are_noted(tmp_path: Path) -> None:
    results = run(tiny(tmp_path, model="continuous_time", solver="euler", solver_steps=3, num_epochs=1))
    assert read_metrics(results["log"])[0]["function_evaluations"] == 3


def test_profile_stops_and_needs_no_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = run(tiny(tmp_path, data="imagenet", profile=True, skip_profiling=True))
    assert results["profile"]["multiply_adds"] > 0
    assert (results["top1"], results["checkpoint"]) == (None, None)
    assert "multiply-adds" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_profiling_can_be_skipped(tmp_path: Path) -> None:
    assert run(tiny(tmp_path, num_epochs=0, skip_profiling=True))["profile"] is None


def test_no_epochs_leave_the_untrained_network(tmp_path: Path) -> None:
    results = run(tiny(tmp_path, num_epochs=0))
    init = tmp_path / "checkpoints" / "tiny" / "init.pt"
    assert_equal(weights(init), weights(results["checkpoint"]))


def test_a_run_of_the_same_name_gets_a_folder_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = run(tiny(tmp_path, num_epochs=0))
    before = Path(first["checkpoint"]).read_bytes()
    second = run(tiny(tmp_path, num_epochs=0, seed=1))
    assert Path(second["checkpoint"]) == tmp_path / "checkpoints" / "tiny-2" / "last.pt"
    assert "tiny-2" in capsys.readouterr().out
    assert Path(first["checkpoint"]).read_bytes() == before
    assert first["log"] != second["log"]


def test_a_run_goes_on_in_its_folder_unless_that_has_gone_further(tmp_path: Path) -> None:
    run(tiny(tmp_path, num_epochs=2, checkpoint_interval=1))
    folder = tmp_path / "checkpoints" / "tiny"
    longer = run(tiny(tmp_path, num_epochs=3, resume=str(folder / "last.pt")))
    assert Path(longer["checkpoint"]) == folder / "last.pt"
    assert checkpoints.read(folder / "last.pt")["progress"]["epoch"] == 3
    branch = run(tiny(tmp_path, num_epochs=2, resume=str(folder / "epoch_1.pt")))
    assert Path(branch["checkpoint"]) == tmp_path / "checkpoints" / "tiny-2" / "last.pt"
    assert checkpoints.read(folder / "last.pt")["progress"]["epoch"] == 3


def test_a_checkpoint_from_elsewhere_is_gone_on_with_where_it_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = tmp_path / "there"
    last = Path(run(tiny(there, num_epochs=1, only_batches=2))["checkpoint"])
    theirs = sorted(path for path in there.rglob("*"))
    here = tmp_path / "here"
    (here / "tiny").mkdir(parents=True)
    copy = Path(shutil.copy(last, here / "tiny"))
    monkeypatch.chdir(here)
    longer = {"num_epochs": 2, "only_batches": 2, "gpus": [], "resume": str(copy)}
    found = run(Experiment.from_saved(checkpoints.read(copy)["settings"], longer))
    assert found["checkpoint"] == str(copy)
    assert Path(found["log"]).resolve().parent == here / "runs"
    assert sorted(path for path in there.rglob("*")) == theirs


def test_weights_of_another_run_start_one_with_other_classes(
    trained: tuple[Path, dict], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, results = trained
    images = tmp_path / "data" / "shapes"
    for split in ("train", "val"):
        for label in ("one", "two", "three"):
            (images / split / label).mkdir(parents=True)
            for number in range(2):
                noise = torch.randint(256, (1, 20, 20), dtype=torch.uint8)
                write_png(noise, str(images / split / label / f"{number}.png"))
    settings = {"data": "shapes", "data_dir": str(tmp_path / "data"), "workers": 0, "output_size": 3, "batch_size": 6}
    found = run(tiny(tmp_path, init_from=results["checkpoint"], num_epochs=0, **settings))
    source, own = weights(results["checkpoint"]), weights(found["checkpoint"])
    fresh = {name for name in own if own[name].shape != source[name].shape}
    assert fresh == {"fc.weight", "fc.bias"}
    for name in own.keys() - fresh:
        assert torch.equal(own[name], source[name])
    assert "another number of classes: fc.weight, fc.bias start afresh" in capsys.readouterr().out


def test_a_checkpoint_of_another_network_is_told(trained: tuple[Path, dict], tmp_path: Path) -> None:
    _, results = trained
    with pytest.raises(UserError, match=r"does not fit the network: .*conv\.weight is \[60, 1, 3, 3\] there"):
        run(tiny(tmp_path, dim=84, init_from=results["checkpoint"]))
    with pytest.raises(UserError, match=r"^dim is 60 in .*last\.pt and 84 here: training goes on as it began\."):
        run(tiny(tmp_path, dim=84, resume=results["checkpoint"]))
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoints of a trained complete graph."""
    folder = tmp_path_factory.mktemp("complete")
    return Path(run(tiny(folder, wiring="complete", prune_rate=0.0, num_epochs=1))["checkpoint"]).parent


@pytest.mark.parametrize("lottery", [False, True])
def test_fine_tuning_keeps_the_strongest_edges_of_a_trained_graph(
    complete: Path, tmp_path: Path, lottery: bool
) -> None:
    start = {"use_init": str(complete / "init.pt")} if lottery else {}
    experiment = tiny(tmp_path, wiring="fine_tune", use_graph=str(complete / "last.pt"), num_epochs=1, **start)
    run(experiment)
    folder = tmp_path / "checkpoints" / "tiny"
    last, init = weights(complete / "last.pt"), weights(folder / "init.pt")
    mask = init["graph.wiring.mask"]
    kept = build_network(experiment).graph.wiring.kept
    assert mask.sum() == kept
    strongest = last["graph.weight"].abs().topk(kept).indices
    assert mask[strongest].all()
    origin = weights(complete / "init.pt") if lottery else last
    assert_equal({name: value for name, value in init.items() if name != "graph.wiring.mask"}, origin)
    assert torch.equal(weights(folder / "last.pt")["graph.wiring.mask"], mask)


def test_a_fine_tuned_run_resumes_without_its_origins(complete: Path, tmp_path: Path) -> None:
    experiment = tiny(tmp_path, wiring="fine_tune", use_graph=str(complete / "last.pt"), num_epochs=1)
    results = run(experiment)
    saved = {**checkpoints.read(results["checkpoint"])["settings"], "use_graph": str(tmp_path / "gone.pt")}
    found = run(Experiment.from_saved(saved, {"resume": results["checkpoint"], "evaluate": True, "gpus": []}))
    assert found["top1"] == results["top1"]


MISTAKES = {
    "evaluate without a checkpoint": ({"evaluate": True}, "nothing to evaluate"),
    "missing checkpoint": ({"resume": "absent.pt"}, r"There is no checkpoint absent\.pt"),
    "wrong number of classes": ({"output_size": 7}, "digits has 10 classes and the network 7 outputs"),
    "data set that is not there": ({"data": "imagenet", "in_channels": 3}, "imagenet"),
    "a name that no file can have": ({"data": "records", "train_records": "x" * 300, "test_records": "x"}, "xxx"),
    "images too small": ({"image_size": 8}, "at least 16 pixels"),
    "widths that do not fit": ({"dim": 61}, "do not split evenly"),
    "no folder for the JSON file": ({"json": "absent/results.json"}, "cannot be written"),
    "no folder for the picture": ({"picture": "absent/a.png"}, "absent/a.png cannot be written"),
    "log_dir that is a file": ({"log_dir": "/dev/null/runs"}, "Cannot make the folder /dev/null/runs: /dev/null is a"),
    "log_dir that is too long": ({"log_dir": "x" * 300}, "Cannot make the folder x.*File name too long"),
    "log_dir that cannot be": ({"log_dir": "/proc/nowhere"}, "Cannot make the folder"),
    "save_dir that cannot be": ({"save_dir": "/proc/nowhere"}, "Cannot make the folder"),
    "precision": ({"precision": "16"}, "needs a GPU"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_are_told_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    monkeypatch.chdir(tmp_path)
    settings, sentence = MISTAKES[case]
    with pytest.raises(UserError, match=sentence):
        run(tiny(tmp_path, data_dir=str(tmp_path), **settings))
    assert not list(tmp_path.iterdir())


def test_a_foreign_checkpoint_cannot_be_resumed(tmp_path: Path) -> None:
    path = tmp_path / "foreign.pt"
    torch.save({"model": build_network(tiny(tmp_path)).state_dict(), "last_epoch": 3}, path)
    with pytest.raises(UserError, match=r"--evaluate.*--init_from"):
        run(tiny(tmp_path, resume=str(path)))
