"""The files of checkpoints: written whole or not at all, and read without executing anything.

A checkpoint of ours is a dict that `torch.load(weights_only=True)` reads: `format` and `version`, `settings` (of the
experiment), `network`, `optimizer` and `precision` (state dicts), `progress` (where training stands), and `average`
where the weights are averaged. The files of a run are init.pt (untrained), last.pt, best.pt and epoch_N.pt (after N
epochs); training can resume from each.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn
from torch.optim import Optimizer

from genutil.errors import UserError
from genutil.system.files import write_whole

if TYPE_CHECKING:
    from lightning_fabric import Fabric

FORMAT = "neural-wirings checkpoint"
VERSION = 1


def contents(
    fabric: Fabric,
    network: nn.Module,
    optimizer: Optimizer,
    progress: Mapping[str, Any],
    settings: Mapping[str, Any],
    average: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What a checkpoint holds. `network` is the plain one; `progress` and `settings` hold plain values and tensors.

    `average` holds the averaged weights, where there are such: `network` (a state dict) and `updates`. The tensors are
    those of network and optimizer themselves.
    """
    return {
        "format": FORMAT,
        "version": VERSION,
        "settings": dict(settings),
        "progress": dict(progress),
        "network": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "precision": fabric.strategy.precision.state_dict(),
        **({} if average is None else {"average": dict(average)}),
    }


def write(path: Path, contents: Mapping[str, Any]) -> None:
    """Write a checkpoint whole.

    Raises:
        WriteError: the file system refuses.
    """
    write_whole(path, lambda file: torch.save(dict(contents), file))


class CheckpointFile(NamedTuple):
    """What a file holds, tensors left on the disk where its form allows.

    ours: whether this program wrote it. contents: None where the file holds objects, which only `pretrained` reads.
    """

    ours: bool
    contents: Any


def read(path: str | Path) -> dict[str, Any]:
    """A checkpoint of ours, tensors on the CPU (on the disk until they are used, where its form allows).

    Raises:
        UserError: no such file, a damaged one, or not ours.
    """
    file = read_file(Path(path))
    if not file.ours:
        raise not_ours(path)
    return file.contents


def not_ours(path: str | Path) -> UserError:
    """The error of a checkpoint that training should go on from and cannot."""
    return UserError(
        f"{path} is no checkpoint of this program, so that training cannot go on from it. "
        "Its weights can be evaluated (--evaluate) or started from (--init_from)."
    )


def read_file(path: Path) -> CheckpointFile:
    """What a file of PyTorch holds, whoever wrote it; nothing in it is executed.

    Raises:
        UserError: no such file, a damaged one, or a later version of ours.
    """
    if not path.is_file():
        raise UserError(f"There is no checkpoint {path}.")
    try:
        contents = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError:
        return CheckpointFile(False, None)
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror or error}.") from error
    except Exception as error:  # torch raises a dozen kinds for files that are cut or damaged
        raise UserError(f"{path} is damaged, or no checkpoint.") from error
    if not isinstance(contents, dict) or contents.get("format") != FORMAT:
        return CheckpointFile(False, contents)
    if contents["version"] > VERSION:
        raise UserError(f"{path} was written by a later version of this program (format {contents['version']}).")
    return CheckpointFile(True, contents)
