"""The weights in what a checkpoint of others holds: under which key they lie, and what their names begin with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

WRAPPERS = (
    "state_dict_ema",
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "net",
    "network",
)
"""Keys under which training programs keep weights, the first that is there being taken; averaged ones before others."""
DEEPEST = 3
"""How many of these keys may lie within one another."""
PREFIXES = ("module.", "_orig_mod.", "model.")
"""What DataParallel, torch.compile and classes around a network put before its names, nested in any order."""
COMPILED = "._orig_mod."
"""The same of a part of the network that was compiled alone."""
EXTRA = "_extra_state"
COUNTER = "num_batches_tracked"


@dataclass(frozen=True)
class FoundState:
    """Weights of a network.

    Attributes:
        entries: tensors, and what layers keep beside them (`_extra_state`), by the names of the network's own state.
        keys: under which they lay, from the outside in.
        prefixes: that their names had, from the outside in.
    """

    entries: dict[str, Any]
    keys: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()

    @property
    def tensors(self) -> dict[str, Tensor]:
        return {name: value for name, value in self.entries.items() if isinstance(value, Tensor)}

    def __str__(self) -> str:
        """What was understood, as the middle of a sentence; empty where nothing had to be."""
        told = [f"the weights under {' / '.join(self.keys)}"] if self.keys else []
        told += [f"names without {''.join(self.prefixes)!r}"] if self.prefixes else []
        return ", ".join(told)


def find(contents: Any) -> FoundState | None:
    """The weights in what a checkpoint holds; None where there are none.

    Args:
        contents: what was read of it.
    """
    keys: list[str] = []
    while isinstance(contents, Mapping) and len(keys) < DEEPEST:
        key = next((key for key in WRAPPERS if _is_state(contents.get(key))), None)
        if key is None:
            break
        keys.append(key)
        contents = contents[key]
    if not isinstance(contents, Mapping) or not any(isinstance(value, Tensor) for value in contents.values()):
        return None
    named = {str(name): value for name, value in contents.items()}
    entries = {name: value for name, value in named.items() if isinstance(value, Tensor) or name.endswith(EXTRA)}
    return _without_prefixes(entries, tuple(keys))


def _is_state(value: Any, depth: int = 1) -> bool:
    """Whether a value is a state dict, or holds one under one of the known keys."""
    if not isinstance(value, Mapping) or depth > DEEPEST:
        return False
    inner = (value[key] for key in WRAPPERS if key in value)
    return any(isinstance(entry, Tensor) for entry in value.values()) or any(
        _is_state(entry, depth + 1) for entry in inner
    )


def _without_prefixes(entries: dict[str, Any], keys: tuple[str, ...]) -> FoundState:
    """The same entries; of the names that have a prefix it is taken away, but never so that two names become one."""
    prefixes: list[str] = []
    while found := next((prefix for prefix in PREFIXES if any(name.startswith(prefix) for name in entries)), None):
        shorter = {name.removeprefix(found): value for name, value in entries.items()}
        if len(shorter) < len(entries):
            break
        entries = shorter
        prefixes.append(found)
    if any(COMPILED in name for name in entries):
        entries = {name.replace(COMPILED, "."): value for name, value in entries.items()}
        prefixes.append(COMPILED.removeprefix("."))
    return FoundState(entries, keys, tuple(prefixes))


def with_counters(state: Mapping[str, Any], network: nn.Module) -> tuple[dict[str, Any], bool]:
    """A state with the counters of batches that its batch norms lack, at zero, and whether they were missing.

    PyTorch 0.4 and what is older wrote none. Only where a state has none at all are they added.
    """
    completed = dict(state)
    if any(name.endswith(COUNTER) for name in state):
        return completed, False
    for name in network.state_dict():
        if name.endswith(COUNTER) and f"{name.removesuffix(COUNTER)}running_mean" in state:
            completed[name] = torch.tensor(0)
    return completed, len(completed) > len(state)
