"""Weights and training states from checkpoints into networks and optimizers, checked before anything changes."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

import torch
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
    except (ValueError, TypeError, KeyError, RuntimeError) as error:  # entries of another network, or of another kind
        said = " ".join(str(error).split()).removesuffix(".")
        raise UserError(f"{source} does not fit the network: {said}.") from error


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
    _resume_optimizer(source, optimizer, copy.deepcopy(contents["optimizer"]))  # else it would share its tensors
    if contents["precision"]:
        try:
            fabric.strategy.precision.load_state_dict(contents["precision"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise UserError(f"The state of the precision in {source} does not fit.") from error
    return copy.deepcopy(contents["progress"])


def _resume_optimizer(source: Source, optimizer: Optimizer, saved: dict[str, Any]) -> None:
    """Give an optimizer the state of a saved one of the same kind; its settings stay as they are.

    Raises:
        UserError: it is of another kind: it has other groups, or keeps other numbers for each weight.
    """
    settings = [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    here, states = _kept(optimizer), [_filled(state) for state in saved["state"].values()]
    others = [names for names in states if names and names != here]
    if not any(states) and here and _updates(source):
        others = [set()]
    if others:
        raise UserError(
            f"The optimizer of {source} is another one: it keeps {_names(others[0])} of each weight, and this one "
            f"{_names(here)}. Go on with its optimizer and momentum, or start from its weights with --init_from."
        )
    try:
        optimizer.load_state_dict(_of_same_kernels(saved, settings))
    except (ValueError, TypeError, KeyError, RuntimeError) as error:
        raise UserError(
            f"The optimizer of {source} does not fit: it was made with other settings (decay_norm_and_bias?)."
        ) from error
    for weight in weights:
        state = optimizer.state.get(weight, {})
        for name, value in state.items():
            if not _fits(name, value, weight):
                raise UserError(f"The optimizer of {source} does not fit: its {name} of a weight has another shape.")
            if isinstance(value, Tensor) and name != "step":
                state[name] = torch.empty_like(weight, dtype=value.dtype).copy_(value)  # fused kernels read by address
    for group, setting in zip(optimizer.param_groups, settings, strict=True):
        group.update(setting)


def _kept(optimizer: Optimizer) -> set[str]:
    """What an optimizer keeps of each weight, as found by a step of another one like it."""
    weight = nn.Parameter(torch.zeros(1))
    weight.grad = torch.zeros(1)
    taken = inspect.signature(type(optimizer)).parameters
    other = type(optimizer)([weight], **{key: value for key, value in optimizer.defaults.items() if key in taken})
    other.step()
    return _filled(other.state[weight])


def _filled(state: Mapping[str, Any]) -> set[str]:
    return {name for name, value in state.items() if value is not None}


def _updates(source: Source) -> Any:
    progress = source.training_state()["progress"]
    return progress.get("epoch") or progress.get("step")


def _fits(name: str, value: Any, weight: Tensor) -> bool:
    """Whether an optimizer can have a value for a weight: none, a count of steps, or one for each of its entries."""
    if name == "step":
        return isinstance(value, int | float) or (isinstance(value, Tensor) and value.dim() == 0)
    return value is None or (isinstance(value, Tensor) and value.shape == weight.shape)


def _names(keys: set[str]) -> str:
    return " and ".join(sorted(keys)) or "nothing"


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
