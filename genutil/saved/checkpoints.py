"""The files of checkpoints: written whole or not at all, and read without executing anything.

A checkpoint of ours is a dict that `torch.load(weights_only=True)` reads: `format` and `version`, `settings` (of the
experiment), `network`, `optimizer` and `precision` (state dicts), `progress` (where training stands), `images` (what
prediction must know: `class_names`, and `whole`, as `data.Data.whole_images`), and `average` where the weights are
averaged. The files of a run are init.pt (untrained), last.pt, best.pt and epoch_N.pt (after N epochs); training can
resume from each. A file ends with the SHA-256 sum of its bytes, which is checked when it is read (`sums`).
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn
from torch.optim import Optimizer

from genutil.errors import UserError
from genutil.saved import sums
from genutil.saved.sums import write_summed
from genutil.system.files import write_whole
from pretrained import archives

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
    images: Mapping[str, Any] | None = None,
    average: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What a checkpoint holds. `network` is the plain one; `progress` and `settings` hold plain values and tensors.

    `images` is what the data say of themselves, nothing where it is not known. `average` holds the averaged weights,
    where there are such: `network` (a state dict) and `updates`. The tensors are those of network and optimizer
    themselves.
    """
    return {
        "format": FORMAT,
        "version": VERSION,
        "settings": dict(settings),
        "progress": dict(progress),
        "network": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "images": dict(images or {}),
        "precision": fabric.strategy.precision.state_dict(),
        **({} if average is None else {"average": dict(average)}),
    }


def write(path: Path, contents: Mapping[str, Any]) -> None:
    """Write a checkpoint whole.

    Raises:
        WriteError: the file system refuses.
    """
    write_whole(path, lambda file: write_summed(file, lambda summed: torch.save(dict(contents), summed)))


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

    A file of ours is compared with the SHA-256 sum that it ends with; any other archive, and those of earlier versions,
    with the CRC-32 sums of its members.

    Raises:
        UserError: no such file, a damaged one, one that is no checkpoint, or a later version of ours.
    """
    if not path.is_file():
        raise UserError(f"There is no checkpoint {path}.")
    try:
        _check(path)
        contents = torch.load(path, map_location="cpu", weights_only=True, mmap=archives.is_zip(path))
    except pickle.UnpicklingError:
        return CheckpointFile(False, None)
    except ValueError as error:
        raise UserError(str(error)) from error
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror or error}.") from error
    except Exception as error:  # torch raises a dozen kinds for files that are cut or damaged
        raise UserError(f"{path} is damaged, or no checkpoint.") from error
    if not isinstance(contents, dict) or contents.get("format") != FORMAT:
        return CheckpointFile(False, contents)
    _check_members(contents, path)
    return CheckpointFile(True, contents)


def _check(path: Path) -> None:
    """Raises ValueError where a file is damaged, or is something else than tensors and plain values as torch saves."""
    try:
        if sums.check(path):
            return
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}.") from error
    if archives.is_zip(path):
        with archives.opened(path) as archive:
            archives.check_sums(archive)


def _check_members(contents: Mapping[str, Any], path: Path) -> None:
    """Raises UserError where a checkpoint of ours lacks a member, or has one of another kind than we write."""
    version = contents.get("version")
    if type(version) is int and version > VERSION:
        raise UserError(f"{path} was written by a later version of this program (format {version}).")
    optimizer = contents.get("optimizer")
    states = optimizer.get("state") if isinstance(optimizer, dict) else None
    groups = optimizer.get("param_groups") if isinstance(optimizer, dict) else None
    sound = {
        "version": type(version) is int and version > 0,
        **{name: _is_named(contents.get(name)) for name in ("settings", "progress", "network", "precision")},
        "optimizer": isinstance(states, dict)
        and all(_is_named(state) for state in states.values())
        and isinstance(groups, list)
        and all(_is_named(group) and isinstance(group.get("params"), list) for group in groups),
        "average": "average" not in contents or _is_average(contents["average"]),
    }
    if "images" in contents:  # since a later time
        sound["images"] = _is_named(contents["images"])
    faults = [name for name, good in sound.items() if not good]
    if faults:
        missing = [name for name in faults if name not in contents]
        said = f"it has no {missing[0]}" if missing else f"its {faults[0]} is of no kind that this program writes"
        raise UserError(f"{path} is damaged: {said}.")


def _is_average(value: Any) -> bool:
    return (
        _is_named(value)
        and _is_named(value.get("network"))
        and type(value.get("updates")) is int
        and value["updates"] >= 0
    )


def _is_named(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(name, str) for name in value)
