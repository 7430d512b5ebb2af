"""Checkpoints that other code wrote, each as one object that is read once; nothing in them is executed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from models.wirings.rules import Graph, graphs
from models.wirings.wire import wired_state
from pretrained import catalogue, dnw_2019, keras_cifar_resnets, pytorch_cifar_resnets, safe_pickle, states, trained
from pretrained.foreign import Foreign
from pretrained.states import FoundState

KERAS = "keras:"
"""Begins the name of a Keras checkpoint: keras:<prefix>, the files' path without .index."""
PUBLISHED = "pretrained:"
"""Begins the name of a published network: pretrained:<name>, as `catalogue` has it."""


class ForeignCheckpoint(ABC):
    """Weights that other code wrote. The files are read when they are first needed, and once.

    Attributes:
        app: the experiment that the weights were trained by, where that is known.
    """

    app: str | None = None

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """What the weights bring as keys of an experiment: their network's arguments, their normalisation.

        Empty where nothing of the kind is known of them.

        Raises:
            FileNotFoundError, ConnectionError: they are not there and cannot be fetched.
            ValueError: they cannot be read.
        """

    @abstractmethod
    def weights(self, network: nn.Module) -> dict[str, Any]:
        """The state dict for a network, of which only the structure is read.

        Returns:
            Names and shapes of the network's own, as far as the checkpoint fits it.

        Raises:
            FileNotFoundError, ConnectionError: as `settings`.
            ValueError: they cannot be read, there are none, or they are another network's.
        """

    def understood(self, network: nn.Module) -> str | None:
        """What was understood of weights that fit a network, as a sentence; None where nothing had to be."""
        return None


class StateFile(ForeignCheckpoint):
    """A file of PyTorch: of the 2019 code, of a public CIFAR ResNet, or one with a state dict, ours or another's.

    Args:
        path: the file.
        contents: what it holds, where that is known already.
    """

    def __init__(self, path: Path, contents: Any = None) -> None:
        self._path = path
        self._known = contents

    @cached_property
    def contents(self) -> Any:
        """What the file holds. Raises FileNotFoundError or ValueError where it cannot be read."""
        return safe_pickle.load(self._path) if self._known is None else self._known

    @cached_property
    def found(self) -> FoundState:
        """The weights of the file. Raises as `contents`, or ValueError where there are none."""
        found = states.find(self.contents)
        if found is None:
            raise ValueError(f"{self._path} holds no weights of a network.")
        return found

    def settings(self) -> dict[str, Any]:
        _ = self.contents  # what cannot be read is told
        try:
            return _settings(pytorch_cifar_resnets.from_state(self.found.tensors))
        except ValueError:  # another network, or none
            return {}

    def weights(self, network: nn.Module) -> dict[str, Any]:
        state, _ = states.with_counters(self.found.entries, network)
        return _for_network(state, network, self._path)

    def understood(self, network: nn.Module) -> str | None:
        state, counted = states.with_counters(self.found.entries, network)
        told = [str(self.found)] if str(self.found) else []
        told += ["batch norms that counted no batches (PyTorch 0.4)"] if counted else []
        if any(isinstance(graph, Graph) for _, graph in graphs(network)):
            told.append("a wired network of this program" if _is_ours(state, network) else "one of the code of 2019")
        return f"{self._path.name} was read as: {'; '.join(told)}." if told else None


class PublishedWeights(ForeignCheckpoint):
    """The weights of a published network, which are fetched where they are not in the cache.

    Raises:
        ValueError: there is no network of that name.
    """

    def __init__(self, name: str) -> None:
        self._published = catalogue.find(name)
        self.app = self._published.app

    @cached_property
    def _file(self) -> StateFile:
        return StateFile(catalogue.fetch(self._published))

    def settings(self) -> dict[str, Any]:
        return {}

    def weights(self, network: nn.Module) -> dict[str, Any]:
        return self._file.weights(network)

    def understood(self, network: nn.Module) -> str | None:
        return self._file.understood(network)


class KerasCheckpoint(ForeignCheckpoint):
    """A TensorFlow-2 checkpoint of one of Keras' CIFAR networks."""

    def __init__(self, prefix: str) -> None:
        self._prefix = Path(prefix).expanduser()

    @cached_property
    def _foreign(self) -> Foreign:
        return keras_cifar_resnets.load(self._prefix)

    def settings(self) -> dict[str, Any]:
        return _settings(self._foreign)

    def weights(self, network: nn.Module) -> dict[str, Any]:
        return wired_state(self._foreign.network.state_dict(), network)

    def understood(self, network: nn.Module) -> str | None:
        foreign = self._foreign
        if foreign.verified:
            return None
        return (
            f"{self._prefix.name} was read as {foreign.model} of depth {foreign.arguments['depth']}: every shape fits; "
            "the accuracy of such files was not verified."
        )


NAMED: dict[str, Callable[[str], ForeignCheckpoint]] = {PUBLISHED: PublishedWeights, KERAS: KerasCheckpoint}
"""How the names of checkpoints begin that are no paths, and what the rest of the name is given to."""


def open_named(name: str) -> ForeignCheckpoint | None:
    """The checkpoint that a name of the form `<kind>:<rest>` means; None where it is of no such form, so a path.

    Raises:
        ValueError: there is no such published network.
    """
    for beginning, make in NAMED.items():
        if name.startswith(beginning):
            return make(name.removeprefix(beginning))
    return None


def trained_here(name: str) -> Path | None:
    """The file with weights that were trained here, where `pretrained:<name>` means such; else None.

    Raises:
        FileNotFoundError, ValueError: it is missing, or another one.
    """
    own = trained.catalogue().get(name.removeprefix(PUBLISHED)) if name.startswith(PUBLISHED) else None
    return own.file() if own else None


def _settings(foreign: Foreign) -> dict[str, Any]:
    return {"model": foreign.model, **foreign.arguments, "mean": list(foreign.mean), "std": list(foreign.std)}


def _for_network(state: Mapping[str, Any], network: nn.Module, path: Path) -> dict[str, Any]:
    if _is_ours(state, network):
        return wired_state(state, network)
    try:
        return dnw_2019.convert({name: value for name, value in state.items() if isinstance(value, Tensor)}, network)
    except ValueError as error:
        raise ValueError(f"{path} does not fit the network: {error}.") from error


def _is_ours(state: Mapping[str, Any], network: nn.Module) -> bool:
    """Whether the weights of a network's own graphs are those of its edges, and no whole matrices as in 2019."""
    weights = [state.get(f"{name}.weight") for name, graph in graphs(network) if isinstance(graph, Graph)]
    return all(isinstance(weight, Tensor) and weight.ndim == 1 for weight in weights)
