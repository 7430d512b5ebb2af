"""Published weights: what there is, where it lies, and readers of foreign checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from models.wiring import graphs
from pretrained import catalogue, dnw_2019, safe_pickle


def read_checkpoint(source: str | Path, network: nn.Module) -> dict[str, Any]:
    """The state dict for a network from a checkpoint that other code wrote; nothing in it is executed.

    Args:
        source: a file of the 2019 code, or one with a bare state dict; or `pretrained:<name>`, which is fetched.
        network: the network that it is of; only its structure is read.

    Returns:
        Names and shapes of the network's own, as far as the checkpoint fits it.

    Raises:
        FileNotFoundError, ConnectionError: it is not there and cannot be fetched.
        ValueError: it holds no weights, or other ones.
    """
    path = Path(source)
    if str(source).startswith(catalogue.PREFIX):
        path = catalogue.fetch(catalogue.find(str(source).removeprefix(catalogue.PREFIX)))
    state = _weights(safe_pickle.load(path), path)
    if not list(graphs(network)):
        return state
    try:
        return dnw_2019.convert(state, network)
    except ValueError as error:
        raise ValueError(f"{path} does not fit the network: {error}.") from error


def _weights(contents: Any, path: Path) -> dict[str, Any]:
    """The tensors of a checkpoint, without the prefix that DataParallel gives their names."""
    for key in ("model", "state_dict"):
        if isinstance(contents, Mapping) and isinstance(contents.get(key), Mapping):
            contents = contents[key]
    if not isinstance(contents, Mapping) or not any(isinstance(value, Tensor) for value in contents.values()):
        raise ValueError(f"{path} holds no weights of a network.")
    return {str(name).removeprefix("module."): value for name, value in contents.items() if isinstance(value, Tensor)}
