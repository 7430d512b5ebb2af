"""App files, command lines and checkpoints of the state before rules owned their options go on working.

`data_of_old_states` was made by the code of that state, on the CPU with one thread: of each app file there the last
checkpoint of its training, of static also that after the first epoch, and in `recorded.json` what evaluations, a
profile and an evaluation by the engine native of these checkpoints gave.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import runner
from genutil.cli import command_line
from genutil.config import Experiment
from genutil.errors import UserError

OLD = Path(__file__).with_name("data_of_old_states")
RECORDED = json.loads((OLD / "recorded.json").read_text())


def resolved(*words: str) -> Experiment:
    """The experiment of a command line."""
    return command_line.resolve(command_line.parse(words), {}, None)


def results(folder: Path, *words: str) -> dict[str, Any]:
    """What the runner writes of a run on the CPU, in one thread."""
    places = ["--save_dir", f"{folder}/checkpoints", "--log_dir", f"{folder}/runs", "--json", f"{folder}/results.json"]
    assert runner.main([*words, *places, "--gpus", "[]", "--threads", "1"]) == 0
    return json.loads((folder / "results.json").read_text())


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("static", {"model": "static", "wiring": "dnw", "prune_rate": 0.9}),
        ("resnet", {"wiring": "rigl", "wiring_interval": 1, "wiring_fraction": 0.4, "dense_layers": ["linear"]}),
        ("randwire", {"regime": "tensorflow_small_cifar", "wiring": "complete", "graph_param": [3, 1]}),
        ("targeted_dropout", {"wiring": "td", "rho": "gamma"}),
    ],
)
def test_app_files_mean_the_same(name: str, meant: dict[str, Any]):
    settings = resolved(f"app:{OLD / name}.yml").to_dict()
    assert {key: settings[key] for key in meant} == meant


def test_only_a_file_of_then_may_carry_options_of_other_rules(tmp_path: Path):
    app = tmp_path / "static.yml"
    app.write_text((OLD / "static.yml").read_text().replace("graph: dnw", "wiring: dnw"))
    with pytest.raises(UserError, match=r"^rho is an option of td, reg_td, and wiring is dnw\.$"):
        resolved(f"app:{app}")


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["--graph", "random"], {"wiring": "random"}),
        (["--model", "resnet", "--depth", "8", "--graph", "rigl", "--wiring_interval", "10"], {"wiring_interval": 10}),
        (["--graph", "td", "--rho", "gamma"], {"wiring": "td", "rho": "gamma"}),
        (
            ["--model", "randwire", "--graph", "complete", "--regime", "my_regime"],
            {"wiring": "complete", "regime": "tensorflow_regular_cifar"},
        ),
    ],
)
def test_command_lines_mean_the_same(words: list[str], meant: dict[str, Any]):
    settings = resolved("app:quickstart", *words).to_dict()
    assert {key: settings[key] for key in meant} == meant


@pytest.mark.parametrize("name", RECORDED)
def test_checkpoints_evaluate_as_they_did(name: str, tmp_path: Path):
    found = results(tmp_path, "--resume", f"{OLD / name}.pt", "--evaluate", "--skip_profiling")
    recorded = RECORDED[name]
    assert found["images"] == recorded["images"]
    assert found["loss"] == pytest.approx(recorded["loss"], rel=1e-5)
    one_image = 100 / recorded["images"]
    assert found["top1"] == pytest.approx(recorded["top1"], abs=1.01 * one_image)


def test_a_checkpoint_is_profiled_as_it_was(tmp_path: Path):
    profile = results(tmp_path, "--resume", f"{OLD}/static.pt", "--profile")["profile"]
    recorded = RECORDED["static"]["profile"]
    assert {key: profile[key] for key in recorded} == recorded


def test_a_checkpoint_runs_on_the_native_engine_as_it_did(tmp_path: Path):
    words = ["--resume", f"{OLD}/static.pt", "--evaluate", "--fast_eval", "--engine", "native", "--skip_profiling"]
    found, recorded = results(tmp_path, *words), RECORDED["static"]["fast_eval"]
    assert found["loss"] == pytest.approx(recorded["loss"], rel=1e-5)
    assert found["top1"] == pytest.approx(recorded["top1"], abs=0.3)


def test_a_training_is_resumed_to_its_end(tmp_path: Path):
    """The second epoch, gone on with from the checkpoint after the first, leads where it led without a break."""
    started = tmp_path / "epoch_1.pt"
    shutil.copy(OLD / "static_epoch_1.pt", started)
    found = results(tmp_path, "--resume", str(started), "--skip_profiling")
    assert found["best"]["epoch"] == 2
    assert found["loss"] == pytest.approx(RECORDED["static"]["loss"], rel=1e-3)
    assert Path(found["checkpoint"]).exists()
