"""Runs that are stopped, and runs of several processes."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from genutil.cli import command_line
from genutil.errors import UserError
from genutil.reports.logs import read_metrics
from genutil.run import run
from genutil.saved import checkpoints
from tests.genutil.parts import assert_equal
from tests.genutil.runs import ROOT, command, environment, tiny, wait_for, weights

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.slow
def test_ctrl_c_saves_and_the_printed_command_goes_on(tmp_path: Path) -> None:
    whole = run(tiny(tmp_path / "whole", num_epochs=30))
    process = subprocess.Popen(
        command(tmp_path, num_epochs=30), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
    )
    last = tmp_path / "checkpoints" / "tiny" / "last.pt"
    wait_for(last, process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert "Stopping as soon as" in err
    progress = checkpoints.read(last)["progress"]
    assert 1 <= progress["epoch"] < 30
    stopped, words = out.split("Go on with:\n")
    assert "Stopped after" in stopped
    words = shlex.split(words)
    assert words[:2] == ["python", "runner.py"]
    run(command_line.resolve(command_line.parse(words[2:]), environment={}))
    assert_equal(weights(whole["checkpoint"]), weights(last))


def test_two_processes_end_as_one(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Over three epochs whose last batch, of 153 images, gives the processes 76 and 77 of them."""
    recipe = {"num_epochs": 3, "precision": "64", "ema_decay": 0.9}
    one = run(tiny(tmp_path / "one", **recipe))
    capfd.readouterr()
    two = run(tiny(tmp_path / "two", devices=2, gpus=None, **recipe))
    out, err = capfd.readouterr()
    assert out.count("epoch 3/3") == 1
    assert not [line for line in err.splitlines() if line and not line.startswith(("epoch", "evaluating"))]
    for place in (lambda saved: saved["network"], lambda saved: saved["average"]["network"]):
        expected, found = (place(checkpoints.read(results["checkpoint"])) for results in (one, two))
        for name, value in found.items():
            if isinstance(value, torch.Tensor):
                torch.testing.assert_close(value, expected[name], rtol=0, atol=1e-9)
    assert two["images"] == one["images"] == 364
    assert (two["top1"], two["top5"]) == (one["top1"], one["top5"])
    assert two["loss"] == pytest.approx(one["loss"], abs=1e-9)
    assert two["average"]["loss"] == pytest.approx(one["average"]["loss"], abs=1e-9)
    losses = [[epoch["train_loss"] for epoch in read_metrics(results["log"])] for results in (one, two)]
    assert losses[1] == pytest.approx(losses[0], abs=1e-9)
    assert {path.name for path in (tmp_path / "two" / "runs").iterdir()} == {Path(two["log"]).name}


@pytest.mark.slow
def test_ctrl_c_stops_two_processes_at_the_same_step(tmp_path: Path) -> None:
    words = [word for word in command(tmp_path, num_epochs=200, devices=2) if word not in ("--gpus", "[]")]
    process = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(), start_new_session=True
    )
    last = tmp_path / "checkpoints" / "tiny" / "last.pt"
    wait_for(last, process)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    out, err = process.communicate(timeout=300)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert "--devices 2" in out
    assert err.count("Stopping as soon as") == 1
    assert checkpoints.read(last)["progress"]["epoch"] < 200


def test_a_mistake_is_told_before_processes_are_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("genutil.run.launch", lambda *_: pytest.fail("processes were started"))
    with pytest.raises(UserError, match="digits has 10 classes"):
        run(tiny(tmp_path, devices=2, output_size=7, gpus=None))
    assert not list(tmp_path.iterdir())


KILLED_AT_FIRST = """
import os, signal, sys
sys.path.insert(0, {root!r})
import runner
from genutil.training.loop import Training
update = Training.update
def until_killed(self, *given):
    if self.progress.updates == 9:
        os.kill(os.getpid(), signal.SIGKILL)
    return update(self, *given)
if __name__ == "__main__":
    if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0" and os.environ["RANK"] == "{rank}":
        Training.update = until_killed
    sys.exit(runner.main())
"""


@pytest.mark.slow
@pytest.mark.parametrize(("processes", "killed"), [(1, 0), (2, 0), (2, 1)])
def test_what_torchrun_starts_again_goes_on(tmp_path: Path, processes: int, killed: int) -> None:
    script = tmp_path / "killed_at_first.py"
    script.write_text(KILLED_AT_FIRST.format(root=str(ROOT), rank=killed))
    _, _, *words = command(tmp_path, num_epochs=3)
    start = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "--max-restarts=1"]
    done = subprocess.run(
        [sys.executable, *start, str(script), *words], capture_output=True, text=True, env=environment(), timeout=600
    )
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "checkpoints"
    assert done.stdout.count(f"Going on from {folder / 'tiny' / 'last.pt'}.") == 1
    assert [path.name for path in folder.iterdir()] == ["tiny"]
    progress = checkpoints.read(folder / "tiny" / "last.pt")["progress"]
    steps = progress["steps_per_epoch"]
    assert [record["step"] for record in progress["history"]] == [steps, 2 * steps, 3 * steps]
