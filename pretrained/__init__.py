"""Published weights: what there is, where it lies, and readers of foreign checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from models.wirings.rules import Graph, graphs
from models.wirings.wire import wired_state
from pretrained import catalogue, dnw_2019, keras_cifar_resnets, pytorch_cifar_resnets, safe_pickle
from pretrained.foreign import Foreign

KERAS = "keras:"
"""Begins the name of a Keras checkpoint: keras:<prefix>, the files' path without .index."""


def read_checkpoint(source: str | Path, network: nn.Module) -> dict[str, Any]:
    """The state dict for a network from a checkpoint that other code wrote; nothing in it is executed.

    Args:
        source: a file of the 2019 code, or one with a bare state dict; or `pretrained:<name>`, which is fetched; or
            `keras:<prefix>`, a TensorFlow-2 checkpoint of a CIFAR ResNet.
        network: the network that it is of; only its structure is read.

    Returns:
        Names and shapes of the network's own, as far as the checkpoint fits it.

    Raises:
        FileNotFoundError, ConnectionError: it is not there and cannot be fetched.
        ValueError: it holds no weights, or other ones.
    """
    if str(source).startswith(KERAS):
        return wired_state(keras_cifar_resnets.load_resnet(_keras_prefix(source)).network.state_dict(), network)
    path = Path(source)
    if str(source).startswith(catalogue.PREFIX):
        path = catalogue.fetch(catalogue.find(str(source).removeprefix(catalogue.PREFIX)))
    state = _weights(safe_pickle.load(path), path)
    if not any(isinstance(graph, Graph) for _, graph in graphs(network)):
        return wired_state(state, network)
    try:
        return dnw_2019.convert(state, network)
    except ValueError as error:
        raise ValueError(f"{path} does not fit the network: {error}.") from error


def read_settings(source: str | Path) -> dict[str, Any]:
    """What foreign weights bring with them, as keys of an experiment: their network's arguments, their normalisation.

    Empty where nothing of the kind is known of them.

    Raises:
        FileNotFoundError, ValueError: as `read_checkpoint`.
    """
    if str(source).startswith(KERAS):
        return _settings(keras_cifar_resnets.load_resnet(_keras_prefix(source)))
    if str(source).startswith(catalogue.PREFIX):
        return {}
    contents = safe_pickle.load(Path(source))
    try:
        return _settings(pytorch_cifar_resnets.from_state(_weights(contents, Path(source))))
    except ValueError:
        return {}


def _keras_prefix(source: str | Path) -> Path:
    return Path(str(source).removeprefix(KERAS)).expanduser()


def _settings(foreign: Foreign) -> dict[str, Any]:
    return {"model": foreign.model, **foreign.arguments, "mean": list(foreign.mean), "std": list(foreign.std)}


def _weights(contents: Any, path: Path) -> dict[str, Any]:
    """The tensors of a checkpoint, without the prefix that DataParallel gives their names."""
    for key in ("model", "state_dict"):
        if isinstance(contents, Mapping) and isinstance(contents.get(key), Mapping):
            contents = contents[key]
    if not isinstance(contents, Mapping) or not any(isinstance(value, Tensor) for value in contents.values()):
        raise ValueError(f"{path} holds no weights of a network.")
    return {str(name).removeprefix("module."): value for name, value in contents.items() if isinstance(value, Tensor)}
