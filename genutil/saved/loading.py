"""Weights and training states from checkpoints into networks and optimizers, checked before anything changes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.optim import Optimizer

from genutil.errors import UserError
from genutil.saved.source import Source

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def load_weights(source: Source, network: nn.Module, keep: Collection[str] = ()) -> None:
    """Load the weights of a checkpoint into a network that they fit.

    Args:
        source: the checkpoint, ours or foreign.
        network: gets the weights.
        keep: entries of the network's state that stay as they are, whatever the checkpoint has under their names.

    Raises:
        UserError: as `Source.weights`; or the weights do not fit, with what differs.
    """
    own = network.state_dict()
    weights = {name: value for name, value in source.weights(network).items() if name not in keep}
    fit(network, {**weights, **{name: own[name] for name in keep}}, source)


def fit(network: nn.Module, weights: Mapping[str, Any], source: Source) -> None:
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


def start_from(source: Source, network: nn.Module, classifier: Callable[[], Collection[str]]) -> list[str]:
    """Load the weights of another run; those of a classifier with another number of classes stay as they are.

    What its wirings remember beside weights and masks stays as well, so that the other run may have had another rule.

    Args:
        source: a checkpoint, ours or foreign.
        network: freshly initialised.
        classifier: gives the names of the entries whose shape depends on the number of classes; asked only where
            some shape differs.

    Returns:
        Names of the classifier's entries where they stayed as they were.

    Raises:
        UserError: as `load_weights`.
    """
    own = network.state_dict()
    weights = {name: value for name, value in source.weights(network).items() if not _is_extra(name)}
    fresh = [name for name in own if name in weights and _shape(weights[name]) != _shape(own[name])]
    if fresh:
        fresh = [name for name in fresh if name in classifier()]
    weights |= {name: value for name, value in own.items() if name in fresh or _is_extra(name)}
    fit(network, weights, source)
    return fresh


def resume(source: Source, fabric: Fabric, network: nn.Module, optimizer: Optimizer) -> dict[str, Any]:
    """Put network, optimizer and precision back to where a checkpoint left them, and return its `progress`.

    What the optimizer's settings are now (learning rate, momentum, weight decay) stays.

    Raises:
        UserError: the checkpoint is not ours; or network or optimizer do not fit.
    """
    contents = source.training_state()
    fit(network, contents["network"], source)
    settings = [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]
    try:
        optimizer.load_state_dict(_of_same_kernels(copy.deepcopy(contents["optimizer"]), settings))  # not its tensors
    except ValueError as error:
        raise UserError(
            f"The optimizer of {source} does not fit: it was made with other settings (decay_norm_and_bias?)."
        ) from error
    for group, setting in zip(optimizer.param_groups, settings, strict=True):
        group.update(setting)
    if contents["precision"]:
        fabric.strategy.precision.load_state_dict(contents["precision"])
    return copy.deepcopy(contents["progress"])


def _of_same_kernels(saved: dict[str, Any], settings: list[dict[str, Any]]) -> dict[str, Any]:
    """An optimizer's state as if it had been saved by the kernels used now, which decide where its counts lie."""
    for group, setting in zip(saved["param_groups"], settings, strict=False):
        group.update({name: setting[name] for name in ("fused", "foreach", "capturable") if name in setting})
    return saved


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
