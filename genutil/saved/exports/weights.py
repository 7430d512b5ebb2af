"""Weights and settings in safetensors: every tensor of the state, and the rest as JSON in the file's metadata."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from genutil.errors import UserError
from genutil.saved.exports.content import Exported

KEY = "neural-wirings"
"""Of the file's metadata; the only one, for safetensors writes several in any order."""
FORMAT = 1


def write(what: Exported) -> bytes:
    """The file's contents.

    Metadata: under KEY, as JSON, `format`, `settings` (of the experiment), `state` (what wirings keep beside tensors)
    and `class_names`.
    """
    state = what.network.state_dict()
    tensors = {
        name: value.detach().cpu().contiguous().clone() for name, value in state.items() if isinstance(value, Tensor)
    }
    described = {
        "format": FORMAT,
        "settings": what.experiment.to_saved(),
        "state": {name: value for name, value in state.items() if name not in tensors},
        "class_names": list(what.class_names),
    }
    return save(tensors, {KEY: json.dumps(described)})


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
    """What a file of safetensors holds.

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
        return WeightsFile(state | own["state"], dict(own["settings"]), list(own["class_names"]))
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror or error}.") from error
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is damaged, or no checkpoint.") from error
