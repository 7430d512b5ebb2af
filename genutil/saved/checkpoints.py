"""Checkpoints: written whole or not at all, read without executing anything, and checked against the network.

A checkpoint of ours is a dict that `torch.load(weights_only=True)` reads: `format` and `version`, `settings` (of the
experiment), `network`, `optimizer` and `precision` (state dicts), and `progress` (where training stands). The files of
a run are init.pt (untrained), last.pt, best.pt and epoch_N.pt (after N epochs); training can resume from each.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import Optimizer

from genutil.errors import UserError
from genutil.system.files import write_whole
from models.wirings.wire import wired_state

FORMAT = "neural-wirings checkpoint"
VERSION = 1
FOREIGN_NAMES = ("pretrained:", "keras:")
"""How names begin that are no files of ours but `pretrained`'s to find."""


def save(
    path: Path,
    fabric: Fabric,
    network: nn.Module,
    optimizer: Optimizer,
    progress: Mapping[str, Any],
    settings: Mapping[str, Any],
) -> None:
    """Write a checkpoint whole. `network` is the plain one; `progress` and `settings` hold plain values and tensors.

    Raises:
        UserError: the file system refuses.
    """
    contents = {
        "format": FORMAT,
        "version": VERSION,
        "settings": dict(settings),
        "progress": dict(progress),
        "network": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "precision": fabric.strategy.precision.state_dict(),
    }
    write_whole(path, lambda file: torch.save(contents, file))


def read(path: str | Path) -> dict[str, Any]:
    """A checkpoint of ours, tensors on the CPU.

    Raises:
        UserError: no such file, a damaged one, or not ours.
    """
    contents = _read_ours(path)
    if contents is None:
        raise UserError(
            f"{path} is no checkpoint of this program, so that training cannot go on from it. "
            "Its weights can be evaluated (--evaluate) or started from (--init_from)."
        )
    return contents


def read_settings(path: str | Path) -> dict[str, Any] | None:
    """The settings kept in a checkpoint; None where it is not ours.

    Raises:
        UserError: no such file, or a damaged one.
    """
    contents = _read_ours(path, mapped=True)
    return None if contents is None else contents["settings"]


def read_weights(path: str | Path, network: nn.Module) -> dict[str, Any]:
    """The state dict for a network from a checkpoint of ours, or from a foreign one that `pretrained` understands.

    Raises:
        UserError: no such file, a damaged one, or one that nobody understands.
    """
    contents = _read_ours(path)
    if contents is not None:
        return wired_state(contents["network"], network)
    import pretrained

    try:
        return pretrained.read_checkpoint(path, network)
    except (ValueError, OSError) as error:
        raise UserError(str(error)) from error


def foreign_settings(path: str | Path) -> dict[str, Any]:
    """What weights that are not ours bring with them as keys of an experiment; nothing for a checkpoint of ours.

    Raises:
        UserError: as `read_weights`.
    """
    if _read_ours(path, mapped=True) is not None:
        return {}
    import pretrained

    try:
        return pretrained.read_settings(path)
    except (ValueError, OSError) as error:
        raise UserError(str(error)) from error


def load_weights(path: str | Path, network: nn.Module, keep: Collection[str] = ()) -> None:
    """Load the weights of a checkpoint, ours or foreign, into a network that they fit.

    Args:
        path: the checkpoint.
        network: gets the weights.
        keep: entries of the network's state that stay as they are, whatever the checkpoint has under their names.

    Raises:
        UserError: as `read_weights`; or the weights do not fit, with what differs.
    """
    own = network.state_dict()
    weights = {name: value for name, value in read_weights(path, network).items() if name not in keep}
    fit(network, {**weights, **{name: own[name] for name in keep}}, path)


def fit(network: nn.Module, weights: Mapping[str, Any], source: str | Path) -> None:
    """Load a state dict into a network whose entries it has, each in its shape.

    Raises:
        UserError: what differs.
    """
    differences = _differences(network.state_dict(), weights)
    if differences:
        raise UserError(f"{source} does not fit the network: {'; '.join(differences)}.")
    try:
        network.load_state_dict(weights)
    except ValueError as error:  # entries of the right shape that belong to another network
        raise UserError(f"{source} does not fit the network: {error}") from error


def start_from(path: str | Path, network: nn.Module, classifier: Callable[[], Collection[str]]) -> list[str]:
    """Load the weights of another run; those of a classifier with another number of classes stay as they are.

    What its wirings remember beside weights and masks stays as well, so that the other run may have had another rule.

    Args:
        path: a checkpoint, ours or foreign.
        network: freshly initialised.
        classifier: gives the names of the entries whose shape depends on the number of classes; asked only where
            some shape differs.

    Returns:
        Names of the classifier's entries where they stayed as they were.

    Raises:
        UserError: as `load_weights`.
    """
    own = network.state_dict()
    weights = {name: value for name, value in read_weights(path, network).items() if not _is_extra(name)}
    fresh = [name for name in own if name in weights and _shape(weights[name]) != _shape(own[name])]
    if fresh:
        fresh = [name for name in fresh if name in classifier()]
    weights |= {name: value for name, value in own.items() if name in fresh or _is_extra(name)}
    fit(network, weights, path)
    return fresh


def resume(path: str | Path, fabric: Fabric, network: nn.Module, optimizer: Optimizer) -> dict[str, Any]:
    """Put network, optimizer and precision back to where a checkpoint left them, and return its `progress`.

    What the optimizer's settings are now (learning rate, momentum, weight decay) stays.

    Raises:
        UserError: as `read`; or network or optimizer do not fit.
    """
    contents = read(path)
    fit(network, contents["network"], path)
    settings = [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]
    try:
        optimizer.load_state_dict(contents["optimizer"])
    except ValueError as error:
        raise UserError(
            f"The optimizer of {path} does not fit: it was made with other settings (decay_norm_and_bias?)."
        ) from error
    for group, setting in zip(optimizer.param_groups, settings, strict=True):
        group.update(setting)
    if contents["precision"]:
        fabric.strategy.precision.load_state_dict(contents["precision"])
    return contents["progress"]


def _read_ours(path: str | Path, mapped: bool = False) -> dict[str, Any] | None:
    """The contents of a checkpoint of ours, tensors left on the disk where `mapped`; None for a foreign one."""
    if str(path).startswith(FOREIGN_NAMES):
        return None
    path = Path(path)
    if not path.is_file():
        raise UserError(f"There is no checkpoint {path}.")
    try:
        mapped = mapped and zipfile.is_zipfile(path)
        contents = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError:
        return None
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror or error}.") from error
    except Exception as error:  # torch raises a dozen kinds for files that are cut or damaged
        raise UserError(f"{path} is damaged, or no checkpoint.") from error
    if not isinstance(contents, dict) or contents.get("format") != FORMAT:
        return None
    if contents["version"] > VERSION:
        raise UserError(f"{path} was written by a later version of this program (format {contents['version']}).")
    return contents


def _differences(own: Mapping[str, Any], given: Mapping[str, Any]) -> list[str]:
    missing = [name for name in own if name not in given]
    unexpected = [name for name in given if name not in own]
    shapes = [
        f"{name} is {_shape(given[name])} there and {_shape(own[name])} here"
        for name in own
        if name in given and _shape(own[name]) != _shape(given[name])
    ]
    kinds = (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
    return [f"{_counted(names)} {what} ({_first(names)})" for what, names in kinds if names]


def _counted(names: list[str]) -> str:
    return "1 entry is" if len(names) == 1 else f"{len(names)} entries are"


def _first(names: list[str], limit: int = 3) -> str:
    return ", ".join(names[:limit]) + (", …" if len(names) > limit else "")


def _shape(value: Any) -> list[int] | None:
    return list(value.shape) if isinstance(value, Tensor) else None


def _is_extra(name: str) -> bool:
    return name.endswith("_extra_state")
