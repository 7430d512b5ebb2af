"""What a person watches and a program reads back: progress, TensorBoard, and metrics.jsonl."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TextIO

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from genutil.errors import UserError
from genutil.reports.sinks import Sink, quiet_threads
from genutil.reports.trackers import Trackers
from genutil.system.files import to_json

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

METRICS = "metrics.jsonl"
CHECKPOINTS = "checkpoints.txt"
"""Beside the metrics, the file that names the folder of the run's checkpoints, seen from the folder of the log."""
PICTURE_SIZE = 512
"""Pixels of the longer side of an adjacency's picture, at most."""


class RunLog:
    """The log of a run in one folder; in processes that have none (`folder` None) it does nothing.

    Where the disk is full, or the folder goes, that is told once, and what cannot be written is left out.

    Args:
        folder: exists; gets TensorBoard's events and metrics.jsonl.
        history: the records that a resumed run has behind it, so that its log is whole.
        trackers: get the same scalars and pictures as TensorBoard; closed with the log.
    """

    def __init__(
        self, folder: Path | None, history: Sequence[Mapping[str, Any]] = (), trackers: Trackers | None = None
    ) -> None:
        self.folder = folder
        self._trackers = trackers
        self._quiet = ExitStack()
        if folder is None:
            return
        self._quiet.enter_context(quiet_threads("tensorboard"))
        self._board = Sink(f"TensorBoard's log in {folder}", lambda: _board(folder), lambda board: board.close())
        path = folder / METRICS
        self._metrics = Sink(str(path), lambda: path.open("a", encoding="utf-8"), lambda file: file.close())
        for record in history:
            self.epoch(record) if "validated_on" in record else self.steps(record)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self.folder is not None:
            self._board.close()
            self._metrics.close()
        if self._trackers is not None:
            self._trackers.close(finished=kind is None)
        self._quiet.close()

    def steps(self, record: Mapping[str, Any], in_metrics: bool = True) -> None:
        """Note means over some steps; their names get the prefix step/ in TensorBoard, at record["step"].

        Args:
            record: one line of metrics.jsonl, where `in_metrics`.
        """
        if self.folder is None:
            return
        figures = {f"step/{name}": record[name] for name in record.keys() - {"epoch", "step"}}
        self._scalars(figures, record["step"])
        if in_metrics:
            self._metrics.write(partial(_add_line, record=record))

    def epoch(self, record: Mapping[str, Any], pictures: Mapping[str, Tensor] | None = None) -> None:
        """Note a validation, and the training since the one before: an epoch, where no val_interval is given.

        Args:
            record: one line of metrics.jsonl; its numbers become scalars of TensorBoard at record["step"].
            pictures: grey images [height, width] with values in 0..1, by name.
        """
        if self.folder is None:
            return
        self._metrics.write(partial(_add_line, record=record))
        step = record["step"]
        figures = {name: value for name, value in record.items() if isinstance(value, int | float) and name != "step"}
        self._scalars(figures, step)
        for name, picture in (pictures or {}).items():
            self._board.write(partial(_add_picture, name=name, picture=picture, step=step))
        self._board.write(lambda board: board.flush())
        if self._trackers is not None:
            self._trackers.pictures(pictures or {}, step)

    def _scalars(self, values: Mapping[str, float], step: int) -> None:
        self._board.write(partial(_add_scalars, figures=values, step=step))
        if self._trackers is not None:
            self._trackers.scalars(values, step)

    def bar(self, title: str, total: int, done: int = 0, delay: float = 0, told: bool = False) -> tqdm | ProgressLine:
        """See `progress_bar`."""
        return progress_bar(title, total, done, delay, shown=self.folder is not None, told=told)


def _board(folder: Path) -> SummaryWriter:
    from torch.utils.tensorboard import SummaryWriter  # takes a tenth of a second

    return SummaryWriter(str(folder))


def _add_scalars(board: SummaryWriter, figures: Mapping[str, Any], step: int) -> None:
    for name, value in figures.items():
        board.add_scalar(name, value, step)


def _add_picture(board: SummaryWriter, name: str, picture: Tensor, step: int) -> None:
    board.add_image(name, picture, step, dataformats="HW")


def _add_line(file: TextIO, record: Mapping[str, Any]) -> None:
    Path(file.name).stat()  # an open file can be written to when it has been removed
    file.write(to_json(record) + "\n")
    file.flush()


class ProgressLine:
    """Stands for a progress bar where nobody watches: one line on standard error when it ends.

    Args: see `progress_bar`. What ends within the delay is not told.
    """

    def __init__(self, title: str, total: int, done: int, delay: float, told: bool) -> None:
        self.title, self.total, self.done = title, total, done
        self.delay = float("inf") if told else delay
        self._figures = ""
        self._started = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        seconds = time.monotonic() - self._started
        if seconds >= self.delay:
            figures = f", {self._figures}" if self._figures else ""
            took = timedelta(seconds=round(seconds))
            print(f"{self.title}: {self.done}/{self.total} in {took}{figures}", file=sys.stderr, flush=True)

    def update(self, steps: int = 1) -> None:
        self.done += steps

    def set_postfix_str(self, figures: str, refresh: bool = False) -> None:
        self._figures = figures


def progress_bar(
    title: str, total: int, done: int = 0, delay: float = 0, shown: bool = True, told: bool = False
) -> tqdm | ProgressLine:
    """A progress bar on standard error, with the time left; where that is no terminal, one line at its end.

    Args:
        title: stands before it.
        total: steps.
        done: steps that are behind.
        delay: seconds before it is drawn at all.
        shown: false for none.
        told: another line will say how it ended, so that the one at its end is left out.
    """
    if shown and not sys.stderr.isatty():
        return ProgressLine(title, total, done, delay, told)
    return tqdm(
        desc=title,
        total=total,
        initial=done,
        file=sys.stderr,
        leave=False,
        dynamic_ncols=True,
        disable=not shown,
        delay=delay,
        mininterval=0.2,
    )


def validation_line(position: str, record: Mapping[str, Any], best_top1: float, left: float) -> str:
    """A validation's record for the terminal.

    Args:
        position: where training stands, as epoch 3/10.
        record: as in metrics.jsonl.
        best_top1: of the validations so far, in percent.
        left: seconds that the rest of the run will take.
    """
    parts = [
        position,
        f"loss {record['train_loss']:.4f}",
        f"top-1 {record['train_top1']:.2f} %",
        f"{record['validated_on']} {record['validation_top1']:.2f} % (best {best_top1:.2f})",
        f"lr {record['lr']:.4g}",
        f"{record['images_per_second']:.0f} images/s",
    ]
    parts += [f"{record[name]} {name.replace('_', ' ')}" for name in ("edges_swapped", "live_nodes") if name in record]
    return "  ".join([*parts, f"{timedelta(seconds=round(left))} left"])


def read_metrics(path: str | Path) -> list[dict[str, Any]]:
    """The records of a run, oldest first, from its metrics.jsonl or the folder that holds it.

    Those of a validation have `validation_top1`; others, which a log_interval brings, hold means over some steps.

    A last line that was cut off while it was written is left out.

    Raises:
        UserError: no such file, or another line that is not JSON.
    """
    path = Path(path)
    path = path / METRICS if path.is_dir() else path
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror}.") from error
    records = []
    for number, line in enumerate(lines, 1):
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError as error:
            if number == len(lines) and not line.endswith("\n"):
                break
            raise UserError(f"Line {number} of {path} is not JSON.") from error
    return records


def adjacency_picture(matrix: Tensor) -> Tensor:
    """A picture of which edges of a graph act: white where none do, black where they are densest.

    Args:
        matrix: effective weights [rows, columns].

    Returns:
        Values in 0..1 [height, width], neither above `PICTURE_SIZE`: the density of each pixel's share of the edges.
    """
    acting = (matrix != 0).float()
    height, width = (min(side, PICTURE_SIZE) for side in acting.shape)
    density = F.adaptive_avg_pool2d(acting[None], (height, width))[0]
    return 1 - density / density.max().clamp(min=torch.finfo(density.dtype).tiny)
