from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import runner
from genutil.cli import series
from genutil.cli.command_line import parse
from genutil.errors import UserError
from genutil.reports.logs import read_metrics

ROOT = Path(__file__).parents[3]

SMALL = """\
model: resnet
depth: 8
width_mult: 0.25
in_channels: 1
image_size: 8
batch_size: 512
num_epochs: 1
lr_scheduler: constant
skip_profiling: true
gpus: []
threads: 1
"""


def file_of(folder: Path, *documents: str) -> str:
    (folder / "base.yml").write_text(SMALL)
    path = folder / "several.yml"
    path.write_text("---\n".join(f"base: base.yml\n{text}" for text in documents))
    return f"app:{path}"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_broken_experiment_is_told_before_the_first_trains_and_the_others_run(folder, capsys, monkeypatch):
    done = []
    real = series.run
    monkeypatch.setattr(series, "run", lambda of: done.append((of.name, of.only_batches)) or real(of))
    app = file_of(folder, "name: one\n", "name: two\nlr: fast\n", "name: three\noutput_size: 7\n", "lr: 0.01\n")
    assert runner.main([app, "--json", "all.json"]) == 2
    assert done == [("one", 2), ("three", 2), ("several/4", 2), ("one", None), ("several/4", None)]
    shown = capsys.readouterr()
    assert "document 2: lr (in several.yml) must be a number, at least 0, not 'fast'." in shown.err
    assert "three: digits has 10 classes and the network 7 outputs" in shown.err
    *_, one, two, three, four = shown.out.splitlines()
    assert one.startswith("one         top-1 ")
    assert two.startswith("document 2  failed: lr (in several.yml) must be a number")
    assert three.startswith("three       failed: digits has 10 classes")
    assert four.startswith("several/4   top-1 ")
    found = json.loads((folder / "all.json").read_text())["experiments"]
    assert [entry["fault"] is None for entry in found] == [True, False, False, True]
    assert found[0]["settings"]["name"] == "one"
    assert found[0]["top1"] >= 0
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == ["one", "several"]
    assert len(read_metrics(found[0]["log"])) == 1


def test_without_a_quick_run_a_failure_shows_when_its_turn_comes(folder, capsys, monkeypatch):
    done = []

    def run(experiment):
        done.append(experiment.name)
        if experiment.name == "one":
            raise ZeroDivisionError("by nought")
        return {"top1": None, "profile": None, "seconds": 1.0}

    monkeypatch.setattr(series, "run", run)
    app = file_of(folder, "name: one\n", "name: two\n")
    assert runner.main([app, "--skip_error_test"]) == 2
    assert done == ["one", "two"]
    shown = capsys.readouterr()
    assert "Traceback" in shown.err
    assert shown.out.endswith("one  failed: ZeroDivisionError: by nought\ntwo  1 s\n")


def test_the_quick_run_leaves_nothing(folder):
    series.check(series.command_line.resolve(parse([file_of(folder, "validation_share: 0.2\nlog_interval: 1\n")])))
    assert sorted(path.name for path in folder.iterdir()) == ["base.yml", "several.yml"]


def test_what_all_experiments_need_is_asked_for_at_once(folder, monkeypatch):
    monkeypatch.setattr(series, "run", lambda experiment: pytest.fail("nothing is to run"))
    with pytest.raises(UserError, match="cannot be written"):
        series.run_series(parse([file_of(folder, "", ""), "--json", str(folder)]))


def test_ctrl_c_ends_the_whole_series(folder):
    app = file_of(folder, "name: one\nnum_epochs: 10000\n", "name: two\n")
    command = [sys.executable, str(ROOT / "runner.py"), app, "--skip_error_test", "--json", "all.json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith("epoch 2/"):
            os.kill(process.pid, signal.SIGINT)
    assert process.wait() == 130
    assert any("runner.py --resume checkpoints/one/last.pt" in line for line in lines)
    assert lines[-2:] == [f"{name}  not run to its end\n" for name in ("one", "two")]
    assert not (folder / "checkpoints" / "two").exists()
    assert [entry["fault"] for entry in json.loads((folder / "all.json").read_text())["experiments"]] == [None, None]


def test_an_experiment_that_may_go_on_is_checked_too(folder: Path) -> None:
    entry = series.command_line.resolve(parse([file_of(folder, "resume: auto\noutput_size: 7\n")]))
    with pytest.raises(UserError, match="10 classes and the network 7 outputs"):
        series.check(entry)
