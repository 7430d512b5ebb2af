"""Snapshots of a training: which edges acted after so many steps, a small file each, beside the checkpoints.

A file is named after its step, `snapshots/00001050.npz`, so that a step that is trained again replaces its own. It is a
compressed NumPy archive: `epoch` (a fraction within one) and `step`, and of every wired graph, under its name, the mask
of the edges that acted as bits (`numpy.packbits`), in the order of the graph's `EdgeLayout`.
"""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from genutil.errors import UserError
from genutil.system.files import write_whole

FOLDER = "snapshots"
EPOCH, STEP = "epoch", "step"


@dataclass(frozen=True)
class Snapshot:
    """Which edges acted at one moment of a training.

    Attributes:
        step: updates behind it.
        epoch: the same, in epochs.
        acting: the bits of each graph's mask, uint8 [ceil(possible / 8)], by the graph's name.
    """

    step: int
    epoch: float
    acting: Mapping[str, NDArray[np.uint8]]

    def mask(self, name: str, possible: int) -> NDArray[np.bool_] | None:
        """Mask [possible] of a graph's acting edges; None where the snapshot has no such graph, or one of another size.

        Args:
            name: of the graph.
            possible: its edges that can act.
        """
        bits = self.acting.get(name)
        if bits is None or len(bits) != -(-possible // 8):
            return None
        return np.unpackbits(bits, count=possible).astype(bool)


def write(run: Path, step: int, epoch: float, acting: Mapping[str, NDArray[np.bool_]]) -> int:
    """Write a snapshot into the folder of a run's checkpoints, whole; returns its size in bytes.

    Args:
        run: the folder, which exists.
        step, epoch: see `Snapshot`.
        acting: masks [possible] by the names of their graphs.

    Raises:
        UserError: the file system refuses.
    """
    folder = run / FOLDER
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise UserError(f"Cannot make the folder {folder}: {error.strerror or error}.") from error
    path = folder / f"{step:08d}.npz"
    arrays = {f"graph/{name}": np.packbits(mask) for name, mask in acting.items()}
    write_whole(path, lambda file: np.savez_compressed(file, **{STEP: step, EPOCH: epoch}, **arrays))  # type: ignore[arg-type]
    return path.stat().st_size


def read(run: Path) -> list[Snapshot]:
    """The snapshots of a run by their steps; none where it has none. Damaged files are left out.

    Args:
        run: the folder of its checkpoints.
    """
    found = []
    for path in _files(run):
        try:
            with np.load(path, allow_pickle=False) as file:
                graphs = {name.removeprefix("graph/"): file[name] for name in file.files if name.startswith("graph/")}
                found.append(Snapshot(int(file[STEP]), float(file[EPOCH]), graphs))
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            continue
    return sorted(found, key=lambda snapshot: snapshot.step)


def carry_over(source: Path, run: Path, step: int) -> None:
    """Give the folder of a run that goes on from a checkpoint the snapshots up to there, and no others.

    Args:
        source: folder of the checkpoint that it goes on from.
        run: its own folder, which may be the same.
        step: updates behind that checkpoint.

    Raises:
        UserError: the file system refuses.
    """
    try:
        if source.resolve() != run.resolve() and (files := _files(source)):
            (run / FOLDER).mkdir(exist_ok=True)
            for path in files:
                shutil.copy(path, run / FOLDER / path.name)
        for path in _files(run):
            if int(path.stem) > step:
                path.unlink()
    except OSError as error:
        raise UserError(f"Cannot write into {run / FOLDER}: {error.strerror or error}.") from error


def _files(run: Path) -> list[Path]:
    """Files of snapshots, by their steps."""
    return sorted(path for path in (run / FOLDER).glob("*.npz") if path.stem.isdecimal())
