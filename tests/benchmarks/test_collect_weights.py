"""Weights of finished trainings are put where pretrained:<name> finds them, and nothing else is."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest
import torch
import yaml

from benchmarks import collect_weights, training_queue
from genutil.config import Experiment
from genutil.errors import UserError
from genutil.reports import results as results_files
from genutil.run import run
from genutil.saved.source import open_source
from pretrained import trained
from tests.genutil.runs import TINY

LEFT_OUT = ("name", "gpus", "data", "image_size", "in_channels", "save_dir", "log_dir")
SMALL = {key: value for key, value in TINY.items() if key not in LEFT_OUT} | {"num_epochs": 1, "image_size": 16}


@pytest.fixture(scope="module")
def queue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with queue.yml, the trainings of its two seeds, and their results."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("queue")
    entry = {"experiment": "quickstart", "name": "small", "seeds": [0, 1], "settings": SMALL}
    (folder / "queue.yml").write_text(yaml.safe_dump([entry]))
    (read,) = training_queue.read(folder / "queue.yml")
    for seed in read.seeds:
        places = {"save_dir": str(folder / "checkpoints"), "log_dir": str(folder / "logs"), "name": f"small-{seed}"}
        more = {"results_dir": str(folder / "results"), "experiment": "quickstart", "gpus": [], "evaluate": False}
        run(Experiment.from_settings({**read.resolved(seed), **places, **more}))
    torch.set_num_threads(threads)
    return folder


def collect(folder: Path, weights: Path, monkeypatch: pytest.MonkeyPatch, *more: str) -> int:
    words = ["--folder", folder, "--results", folder / "results", "--queue", folder / "queue.yml", "--weights", weights]
    monkeypatch.setattr(sys, "argv", ["collect_weights.py", *map(str, words), *more])
    return collect_weights.main()


def test_the_median_seed_is_shipped_and_found_by_its_name(
    queue: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = tmp_path / "weights"
    assert collect(queue, weights, monkeypatch) == 0
    results = [results_files.read(path) for path in (queue / "results").rglob("*.json")]
    lower = min(results, key=lambda result: (result["last"]["top1"], result["settings"]["seed"]))
    (own,) = trained.catalogue(weights).values()
    assert (own.name, own.experiment, own.length) == ("digits_small", "quickstart", "1 epochs")
    assert own.seed == lower["settings"]["seed"]
    assert f"digits_small: seed {own.seed} of 2, top-1 {lower['last']['top1']:.2f} %" in capsys.readouterr().out
    assert str(queue) not in (weights / "digits_small.safetensors").read_bytes().decode("latin-1")

    monkeypatch.setattr(trained, "WEIGHTS", weights)
    source = open_source("pretrained:digits_small")
    saved = torch.load(queue / "checkpoints" / f"small-{own.seed}" / "last.pt", weights_only=True)["network"]
    network = collect_weights.network_and_images("pretrained:digits_small", {"gpus": []})[0]
    for name, value in source.weights(network).items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, saved[name])
    assert collect_weights.right_of_first("pretrained:digits_small", 1000, {"gpus": []}) == own.right_of_first
    right, seen = own.right_of_first
    assert 100 * right / seen == pytest.approx(lower["last"]["top1"])  # there are fewer than 1000

    with pytest.raises(UserError, match=r"did you mean digits_small\? There are .*dnw_x49, digits_small\."):
        open_source("pretrained:digits_smal")
    path = weights / "digits_small.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    with pytest.raises(UserError, match="is not what was trained: its SHA-256 sum is"):
        open_source("pretrained:digits_small")
    path.unlink()
    with pytest.raises(UserError, match=r"digits_small\.safetensors are missing"):
        open_source("pretrained:digits_small")


def test_another_training_than_the_results_is_refused(
    queue: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "queue"
    shutil.copytree(queue, folder)
    for seed in (0, 1):
        place = folder / "checkpoints" / f"small-{seed}"
        shutil.copy(place / "init.pt", place / "last.pt")
    assert collect(folder, tmp_path / "weights", monkeypatch) == 2
    assert "last.pt is not the end of the training that its result is of." in capsys.readouterr().err
    for seed in (0, 1):
        (folder / "checkpoints" / f"small-{seed}" / "last.pt").unlink()
    assert collect(folder, tmp_path / "weights", monkeypatch) == 2
    assert "last.pt" in capsys.readouterr().err
    assert trained.catalogue(tmp_path / "weights") == {}


def test_of_what_is_large_the_acting_edges_alone_are_kept(
    queue: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []
    for most in (collect_weights.MOST_BYTES, None):
        monkeypatch.setattr(collect_weights, "MOST_BYTES", most or sizes[0] - 1)
        weights = tmp_path / str(most)
        assert collect(queue, weights, monkeypatch) == 0
        (own,) = trained.catalogue(weights).values()
        sizes.append(own.file(weights).stat().st_size)
        monkeypatch.setattr(trained, "WEIGHTS", weights)
        assert collect_weights.right_of_first("pretrained:digits_small", 1000, {"gpus": []}) == own.right_of_first
    assert sizes[1] < sizes[0]


def test_what_does_not_reach_its_accuracy_or_is_large_is_not_kept(
    queue: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = tmp_path / "weights"
    monkeypatch.setattr(collect_weights, "MOST_BYTES", 1000)
    assert collect(queue, weights, monkeypatch) == 2
    assert "more than 1,000." in capsys.readouterr().err
    monkeypatch.undo()
    folder = tmp_path / "queue"
    shutil.copytree(queue, folder)
    for path in (folder / "results").rglob("*.json"):
        result = results_files.read(path)
        result["last"]["top1"] += 0.5
        path.write_text(results_files.to_json(result))
    assert collect(folder, weights, monkeypatch) == 2
    assert "%, and its training" in capsys.readouterr().err
    assert list(weights.glob("*.safetensors")) == []

    assert collect(queue, weights, monkeypatch) == 0  # what is shipped stays where a later one is refused
    (shipped,) = trained.catalogue(weights).values()
    assert collect(folder, weights, monkeypatch) == 2
    assert trained.catalogue(weights) == {shipped.name: shipped}
    assert shipped.file(weights).is_file()


def test_every_seed_is_shipped_and_stays_where_another_becomes_the_median(
    queue: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, weights = tmp_path / "queue", tmp_path / "weights"
    shutil.copytree(queue, folder)
    paths = {results_files.read(path)["seed"]: path for path in (folder / "results").rglob("*.json")}
    alone, aside = paths[1].read_text(), tmp_path / "aside"
    paths[1].unlink()
    assert collect(folder, weights, monkeypatch, "--every_seed") == 0
    assert [(own.name, own.seed) for own in trained.catalogue(weights).values()] == [("digits_small", 0)]
    first = (weights / "digits_small.safetensors").read_bytes()

    paths[1].write_text(alone)
    monkeypatch.setattr(collect_weights, "median_run", lambda found: max(found, key=lambda result: result["seed"]))
    shutil.move(folder / "checkpoints", aside)
    assert collect(folder, weights, monkeypatch, "--every_seed") == 2  # the new median's checkpoint is missing
    assert "digits_small: " in capsys.readouterr().err
    assert [(own.name, own.seed) for own in trained.catalogue(weights).values()] == [("digits_small", 0)]
    assert (weights / "digits_small.safetensors").read_bytes() == first

    shutil.move(aside, folder / "checkpoints")
    shutil.rmtree(folder / "checkpoints" / "small-0")  # shipped already: it needs no checkpoint any more
    assert collect(folder, weights, monkeypatch, "--every_seed") == 0
    kept = trained.catalogue(weights)
    assert {name: own.seed for name, own in kept.items()} == {"digits_small": 1, "digits_small-seed_0": 0}
    assert kept["digits_small-seed_0"].file(weights).read_bytes() == first
    assert kept["digits_small"].file(weights).read_bytes() != first
    monkeypatch.setattr(trained, "WEIGHTS", weights)
    assert collect_weights.right_of_first("pretrained:digits_small-seed_0", 1000, {"gpus": []})[1] > 0

    monkeypatch.setattr(collect_weights, "median_run", lambda found: min(found, key=lambda result: result["seed"]))
    assert collect(folder, weights, monkeypatch) == 0  # what is shipped stays, under the other name
    assert {name: own.seed for name, own in trained.catalogue(weights).items()} == {
        "digits_small": 0,
        "digits_small-seed_1": 1,
    }
    names = ["catalogue.json", "digits_small-seed_1.safetensors", "digits_small.safetensors"]
    assert sorted(path.name for path in weights.iterdir()) == names
    assert (weights / "digits_small.safetensors").read_bytes() == first

    damaged = weights / "digits_small-seed_1.safetensors"
    good = damaged.read_bytes()
    damaged.write_bytes(good[:-1])
    assert collect(folder, weights, monkeypatch) == 0  # made anew from its checkpoint
    assert trained.catalogue(weights)["digits_small-seed_1"].file(weights).stat().st_size == len(good)


def test_an_interruption_of_shipping_loses_no_weights(
    queue: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, weights = tmp_path / "queue", tmp_path / "weights"
    shutil.copytree(queue, folder)
    monkeypatch.setattr(collect_weights, "median_run", lambda found: min(found, key=lambda result: result["seed"]))
    assert collect(folder, weights, monkeypatch) == 0
    first = (weights / "digits_small.safetensors").read_bytes()
    shutil.rmtree(folder / "checkpoints" / "small-0")
    monkeypatch.setattr(collect_weights, "median_run", lambda found: max(found, key=lambda result: result["seed"]))
    write = collect_weights.write_whole

    def interrupted(path: Path, act: Callable[[BinaryIO], object]) -> None:
        write(path, act)
        if path.name == "digits_small.safetensors":
            raise KeyboardInterrupt

    monkeypatch.setattr(collect_weights, "write_whole", interrupted)
    with pytest.raises(KeyboardInterrupt):
        collect(folder, weights, monkeypatch)
    monkeypatch.setattr(collect_weights, "write_whole", write)
    assert collect(folder, weights, monkeypatch) == 0
    kept = trained.catalogue(weights)
    assert {name: own.seed for name, own in kept.items()} == {"digits_small": 1, "digits_small-seed_0": 0}
    assert kept["digits_small-seed_0"].file(weights).read_bytes() == first
    assert kept["digits_small"].file(weights).read_bytes() != first


def test_weights_are_of_a_result_with_their_settings_alone(
    queue: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tmp_path / "weights"
    assert collect(queue, weights, monkeypatch) == 0
    kept = trained.catalogue(weights)
    (own,) = kept.values()
    results = [results_files.read(path) for path in (queue / "results").rglob("*.json")]
    result = next(result for result in results if result["seed"] == own.seed)
    assert collect_weights.shipped(own.name, result, kept, weights) == own
    assert collect_weights.shipped(f"{own.name}-seed_7", result, kept, weights) == own
    other = {**result, "settings": {**result["settings"], "lr": 2 * result["settings"]["lr"]}}
    assert collect_weights.shipped(own.name, other, kept, weights) is None
    better = {**result, "last": {"top1": own.top1 + 0.01}}
    assert collect_weights.shipped(own.name, better, kept, weights) is None


def test_the_median_of_results() -> None:
    results = [{"last": {"top1": top1}, "settings": {"seed": seed}} for seed, top1 in enumerate((81.0, 80.0, 82.0))]
    assert collect_weights.median_run(results)["settings"]["seed"] == 0
    assert collect_weights.median_run(results[:2])["settings"]["seed"] == 1
