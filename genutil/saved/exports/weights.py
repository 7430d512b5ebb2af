"""Weights and settings in safetensors: tensors of the state, and the rest as JSON in the file's metadata."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from genutil.errors import UserError
from genutil.saved.exports.content import Exported
from models.wirings.graph import LayerGraph, graphs

KEY = "neural-wirings"
"""Of the file's metadata; the only one, for safetensors writes several in any order."""
FORMAT = 2
"""The newest; files that hold the weights of all edges are of format 1."""
ACTING = ":acting"
"""Behind a weight's name: the mask of the edges whose weights are there, eight to a byte."""


def write(what: Exported) -> bytes:
    """The file's contents.

    Metadata: under KEY, as JSON, `format`, `settings` (of the experiment), `state` (what wirings keep beside tensors)
    and `class_names`. Without the weights of idle edges (`Exported.acting_only`) a wired weight is the vector of those
    that act in evaluation, in the order of its entries; masks have eight entries to a byte, the first in the highest
    bit; `acting` and `masks` are their shapes, by name.
    """
    state = what.network.state_dict()
    tensors = {
        name: value.detach().cpu().contiguous().clone() for name, value in state.items() if isinstance(value, Tensor)
    }
    described = {
        "format": 1,
        "settings": what.experiment.to_saved(),
        "state": {name: value for name, value in state.items() if name not in tensors},
        "class_names": list(what.class_names),
    }
    if what.acting_only:
        tensors, shapes = _without_idle_edges(what.network, tensors)
        described |= {"format": FORMAT, **shapes}
    return save(tensors, {KEY: json.dumps(described)})


def _without_idle_edges(
    network: nn.Module, tensors: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, dict[str, list[int]]]]:
    """The tensors of the smaller form, and the shapes of what they stand for."""
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    smaller = dict(tensors)
    acting: dict[str, list[int]] = {}
    for _, graph in graphs(network):
        name = names[id(graph.parameter if isinstance(graph, LayerGraph) else graph.weight)]
        mask = graph.acting().cpu().reshape(-1)
        acting[name] = list(tensors[name].shape)
        smaller |= {name: tensors[name].reshape(-1)[mask], f"{name}{ACTING}": _packed(mask)}
    masks = {name: list(value.shape) for name, value in tensors.items() if value.dtype == torch.bool}
    smaller |= {name: _packed(tensors[name]) for name in masks}
    return smaller, {"acting": acting, "masks": masks}


def _packed(mask: Tensor) -> Tensor:
    return torch.from_numpy(np.packbits(mask.reshape(-1).numpy()))


def _unpacked(bits: Tensor, shape: list[int]) -> Tensor:
    """Raises TypeError or ValueError where the bits are not those of a mask of that shape."""
    if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape):
        raise TypeError("a shape is a list of sizes")
    entries = math.prod(shape)
    if bits.dtype != torch.uint8 or bits.dim() != 1 or len(bits) != -(-entries // 8):
        raise ValueError("a mask of another size")
    return torch.from_numpy(np.unpackbits(bits.numpy(), count=entries).astype(bool)).view(shape)


def _with_idle_edges(state: Mapping[str, Any], described: Mapping[str, Any]) -> dict[str, Any]:
    """The whole state, with 0 for the weights of idle edges. Raises KeyError, TypeError,
    ValueError or RuntimeError for a damaged file."""
    whole = dict(state)
    for name, shape in described.get("masks", {}).items():
        whole[name] = _unpacked(whole[name], shape)
    for name, shape in described.get("acting", {}).items():
        mask, values = _unpacked(whole.pop(f"{name}{ACTING}"), shape), whole[name]
        if values.dim() != 1 or len(values) != int(mask.count_nonzero()):
            raise ValueError("a mask of other weights")
        whole[name] = torch.zeros(shape, dtype=values.dtype).masked_scatter_(mask, values)
    return whole


@dataclass(frozen=True)
class WeightsFile:
    """A file of safetensors.

    Attributes:
        state: tensors by name, with what wirings keep beside them.
        settings: of the experiment; None where another program wrote the file.
        class_names: of the network's outputs; none where they are not known.
    """

    state: dict[str, Any]
    settings: dict[str, Any] | None
    class_names: list[str] = field(default_factory=list)


def read(path: Path) -> WeightsFile:
    """What a file of safetensors holds; weights of edges that were left out are 0.

    Raises:
        UserError: no such file, or a damaged one.
    """
    if not path.is_file():
        raise UserError(f"There is no checkpoint {path}.")
    try:
        with safe_open(path, framework="pt") as file:
            described = file.metadata() or {}
            state: dict[str, Any] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if KEY not in described:
            return WeightsFile(state, None)
        own = json.loads(described[KEY])
        if own["format"] > FORMAT:
            raise UserError(f"{path} was written by a later version of this program (format {own['format']}).")
        state = _with_idle_edges(state, own)
        return WeightsFile(state | own["state"], dict(own["settings"]), list(own["class_names"]))
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror or error}.") from error
    except (SafetensorError, AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{path} is damaged, or no checkpoint.") from error
