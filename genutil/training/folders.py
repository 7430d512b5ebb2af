"""The folders that a training run writes into: its own alone while it runs."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import NamedTuple

import yaml

from genutil.config import Experiment
from genutil.errors import UserError
from genutil.reports.logs import CHECKPOINTS
from genutil.saved import snapshots
from genutil.saved.sources import Sources
from genutil.system import jobs
from genutil.system.files import TEMPORARY, claim_log_folder, remove_leftovers, write_text
from genutil.system.locks import LOCK, FolderInUseError, FolderLock
from genutil.training.going_on import DAMAGED, is_run_folder, name_of
from genutil.training.progress import Progress

SETTINGS = "settings.yml"


class Folders(NamedTuple):
    """Where the first process of a training run writes; the others have none."""

    checkpoints: Path | None = None
    logs: Path | None = None
    lock: FolderLock | None = None

    def release(self) -> None:
        """Give the folder of checkpoints free. What a job had stays known to those that it is started again as."""
        if self.lock is not None:
            self.lock.release(keep_note=jobs.job() is not None)


def claim(experiment: Experiment, progress: Progress, sources: Sources, say: Callable[[str], None]) -> Folders:
    """The folders of checkpoints and logs; the first is locked, and holds the settings from then on.

    A run that is resumed goes on in the folder of its checkpoint, if that is the run's own and nothing in it lies
    further on. Any other gets a new one.

    Args:
        experiment: of the run.
        progress: where it starts from.
        sources: opens checkpoints.
        say: prints a line.

    Raises:
        FolderInUseError: another process trains in the folder that the run would go on in.
        UserError: they cannot be made.
    """
    own = _to_go_on_in(experiment, progress, sources, say)
    above = Path(experiment.save_dir, name_of(experiment))
    made = [place for place in (above, *above.parents) if not place.exists()]
    lock = own or _new(experiment)
    try:
        logs = claim_log_folder(Path(experiment.log_dir), name_of(experiment))
    except BaseException:
        lock.release()
        for place in made:  # what was there stays
            with suppress(OSError):
                place.rmdir()
        raise
    try:
        remove_leftovers(lock.folder)
        if experiment.resume:
            snapshots.carry_over(Path(experiment.resume).parent, lock.folder, progress.updates)
        write_text(lock.folder / SETTINGS, yaml.safe_dump(experiment.to_saved(), sort_keys=False))
        write_text(logs / CHECKPOINTS, os.path.relpath(lock.folder, logs) + "\n")
        return Folders(lock.folder, logs, lock)
    except BaseException:
        lock.release()
        raise


def _to_go_on_in(
    experiment: Experiment, progress: Progress, sources: Sources, say: Callable[[str], None]
) -> FolderLock | None:
    if not experiment.resume:
        return None
    folder, last = Path(experiment.resume).parent, Path(experiment.resume).with_name("last.pt")
    if not is_run_folder(folder, Path(experiment.save_dir, name_of(experiment))):
        return None
    lock = FolderLock(folder, jobs.job())
    try:
        saved = sources.open(last).training_state()["progress"] if last.exists() else None
    except UserError as fault:
        say(f"{fault} It is put aside as {DAMAGED}.")
        with suppress(OSError):  # a disk that refuses this refuses the settings too
            last.replace(last.with_name(DAMAGED))
        saved = None
    if saved and (saved["epoch"], saved["step"]) > (progress.epoch, progress.step):
        lock.release()
        return None
    return lock


def _new(experiment: Experiment) -> FolderLock:
    """Of save_dir/name, or of save_dir/name-2, -3 … where another run's files lie."""
    own = Path(experiment.save_dir, name_of(experiment))
    for number in count(1):
        folder = own if number == 1 else own.with_name(f"{own.name}-{number}")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not _is_free(folder):
                continue
            lock = FolderLock(folder, jobs.job())
        except (FolderInUseError, FileExistsError):
            continue
        except OSError as error:
            raise UserError(f"Cannot make the folder {folder}: {error.strerror or error}.") from error
        if _is_free(folder):
            return lock
        lock.release()
    raise AssertionError("unreachable: count() does not end")


def _is_free(folder: Path) -> bool:
    """Whether nothing of a run lies there but what one leaves that was killed before its first checkpoint."""
    names = {path.name for path in folder.iterdir() if not TEMPORARY.fullmatch(path.name)}
    return names <= ({LOCK, SETTINGS, "graphs"} if SETTINGS in names else {LOCK})
