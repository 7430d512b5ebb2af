from __future__ import annotations

import json
import shutil
import sys
import threading
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from genutil.errors import UserError
from genutil.reports.logs import METRICS, PICTURE_SIZE, RunLog, adjacency_picture, progress_bar, read_metrics


def record(epoch: int, **more) -> dict:
    return {"epoch": epoch, "step": 10 * epoch, "train_loss": 1 / epoch, "validated_on": "test", **more}


def test_metrics_are_read_back_from_file_and_folder(tmp_path: Path) -> None:
    records = [record(1), record(2, edges_swapped=3), record(3, live_nodes=7)]
    with RunLog(tmp_path) as log:
        for line in records:
            log.epoch(line)
    assert read_metrics(tmp_path / METRICS) == records
    assert read_metrics(tmp_path) == records


def test_each_epoch_is_on_the_disk_at_once(tmp_path: Path) -> None:
    with RunLog(tmp_path) as log:
        log.epoch(record(1))
        assert read_metrics(tmp_path) == [record(1)]


def test_a_resumed_runs_log_is_whole(tmp_path: Path) -> None:
    with RunLog(tmp_path, history=[record(1), record(2)]) as log:
        log.epoch(record(3))
    assert [line["epoch"] for line in read_metrics(tmp_path)] == [1, 2, 3]


def test_a_resumed_runs_log_has_the_steps_too(tmp_path: Path) -> None:
    history = [{"epoch": 1, "step": 5, "train_loss": 2.0}, record(1)]
    with RunLog(tmp_path, history):
        pass
    assert read_metrics(tmp_path) == history
    board = EventAccumulator(str(tmp_path))
    board.Reload()
    assert [event.value for event in board.Scalars("step/train_loss")] == [2]


def test_numbers_that_are_not_finite_become_null(tmp_path: Path) -> None:
    with RunLog(tmp_path) as log:
        log.epoch(record(1, validation_loss=float("nan")))
    assert read_metrics(tmp_path)[0]["validation_loss"] is None


def test_a_line_cut_off_at_the_end_is_left_out_and_one_in_the_middle_is_told(tmp_path: Path) -> None:
    path = tmp_path / METRICS
    path.write_text(json.dumps(record(1)) + "\n" + json.dumps(record(2))[:-5])
    assert read_metrics(path) == [record(1)]
    path.write_text(json.dumps(record(1))[:-5] + "\n" + json.dumps(record(2)) + "\n")
    with pytest.raises(UserError, match=r"Line 1 of .*metrics\.jsonl is not JSON"):
        read_metrics(path)
    with pytest.raises(UserError, match="Cannot read"):
        read_metrics(tmp_path / "absent")


def test_tensorboard_gets_scalars_and_pictures(tmp_path: Path) -> None:
    with RunLog(tmp_path) as log:
        for step in (5, 10):
            log.steps({"epoch": 1, "step": step, "train_loss": 1 / step, "lr": 0.1}, in_metrics=step == 10)
        log.epoch(record(1, edges_swapped=3), {"adjacency/graph": torch.rand(20, 30)})
    board = EventAccumulator(str(tmp_path))
    board.Reload()
    assert {"train_loss", "edges_swapped", "step/train_loss", "step/lr"} <= set(board.Tags()["scalars"])
    assert [event.step for event in board.Scalars("step/train_loss")] == [5, 10]
    assert [line["step"] for line in read_metrics(tmp_path)] == [10, 10]
    (swapped,) = board.Scalars("edges_swapped")
    assert (swapped.step, swapped.value) == (10, 3)
    (picture,) = board.Images("adjacency/graph")
    assert (picture.height, picture.width) == (20, 30)


def test_other_processes_write_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with RunLog(None) as log:
        log.steps({"epoch": 1, "step": 50, "train_loss": 1.0})
        log.epoch(record(1))
        assert log.bar("epoch", 3).disable
    assert not list(tmp_path.iterdir())


class Terminal(StringIO):
    """Standard error where somebody watches."""

    def isatty(self) -> bool:
        return True


def test_the_bar_shows_figures_and_time_left_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", Terminal())
    with progress_bar("epoch 1/3", 10) as bar:
        bar.set_postfix_str("loss 2.3026, top-1 10.00 %, 512 images/s", refresh=False)
        bar.update(4)
        bar.refresh()
        shown = sys.stderr.getvalue()
    for part in ("epoch 1/3", "40%", "4/10", "<", "loss 2.3026", "512 images/s"):
        assert part in shown


def test_without_a_terminal_progress_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("epoch 1/3", 10, done=2) as bar:
        for _ in range(8):
            bar.update()
            bar.set_postfix_str("loss 2.3026, 512 images/s", refresh=False)
    shown = capsys.readouterr()
    assert shown.err == "epoch 1/3: 10/10 in 0:00:00, loss 2.3026, 512 images/s\n"
    assert not shown.out


def test_without_a_terminal_what_another_line_tells_is_not_told_twice(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("epoch 1/3", 10, told=True) as bar:
        bar.update(10)
    assert not capsys.readouterr().err


def test_without_a_terminal_what_is_short_is_not_told(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("evaluating", 10, delay=2) as bar:
        bar.update()
    assert not capsys.readouterr().err


def test_a_small_picture_shows_every_edge() -> None:
    matrix = torch.tensor([[0.0, 2.0], [-1.0, 0.0]])
    assert adjacency_picture(matrix).tolist() == [[1, 0], [0, 1]]
    assert adjacency_picture(torch.zeros(3, 5)).tolist() == torch.ones(3, 5).tolist()


def test_a_large_picture_is_brought_down_by_density() -> None:
    matrix = torch.zeros(4 * PICTURE_SIZE, PICTURE_SIZE // 2)
    matrix[: 2 * PICTURE_SIZE, ::2] = 1
    picture = adjacency_picture(matrix)
    assert picture.shape == (PICTURE_SIZE, PICTURE_SIZE // 2)
    assert picture[0, :4].tolist() == [0, 1, 0, 1]
    assert picture[PICTURE_SIZE // 2 :].unique().tolist() == [1]


def test_a_full_disk_is_told_once_and_the_log_left_out(
    small_disk: Callable[[int], Path], capfd: pytest.CaptureFixture[str]
) -> None:
    disk = small_disk(64)
    with RunLog(disk) as log:
        log.epoch(record(1))
        (disk / "filling").write_bytes(bytes(52 * 1024))
        for epoch in range(2, 40):
            log.steps({"epoch": epoch, "step": 10 * epoch, "train_loss": 1.0})
            log.epoch(record(epoch, note="x" * 1000), {"adjacency": torch.rand(60, 60)})
    told = [line for line in capfd.readouterr().err.splitlines() if line]
    assert sorted(line.split(" (")[0] for line in told) == [
        f"{disk}/metrics.jsonl cannot be written",
        f"TensorBoard's log in {disk} cannot be written",
    ]
    assert all("No space left on device): training goes on without" in line for line in told)
    assert read_metrics(disk)[0] == record(1)


def test_a_log_folder_that_goes_is_told_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    with RunLog(folder) as log:
        log.epoch(record(1))
        shutil.rmtree(folder)
        for epoch in (2, 3, 4):
            log.epoch(record(epoch))
    assert capfd.readouterr().err.count("No such file or directory): training goes on without") == 2
    assert not folder.exists()


def test_a_log_that_cannot_be_begun_is_told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "place").touch()
    with RunLog(tmp_path / "place") as log:
        log.epoch(record(1))
    assert capfd.readouterr().err.count("training goes on without") == 2


def test_other_threads_still_tell_what_ended_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", told.append)
    with RunLog(tmp_path):
        thread = threading.Thread(target=lambda: 1 / 0)
        thread.start()
        thread.join()
    assert [arguments.exc_type for arguments in told] == [ZeroDivisionError]
