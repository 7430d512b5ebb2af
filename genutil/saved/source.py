"""A checkpoint that weights and settings come from: a file of ours, or one that other code wrote.

It is named by a path, `pretrained:<name>` or `keras:<prefix>`; a run opens it by its `sources.Sources`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

import pretrained
from genutil.errors import UserError
from genutil.saved import checkpoints
from genutil.settings import app_files
from models.wirings.wire import wired_state

if TYPE_CHECKING:
    from genutil.saved.exports.weights import WeightsFile


class Source(ABC):
    """A checkpoint, whoever wrote it. As text it is its name.

    Args:
        name: by which it was asked for.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __str__(self) -> str:
        return self._name

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """The settings of the experiment that the weights are of.

        Raises:
            UserError: they are not known.
        """

    @abstractmethod
    def network_settings(self) -> dict[str, Any]:
        """What weights that are not ours bring with them as keys of an experiment; nothing for a checkpoint of ours.

        Raises:
            UserError: as `weights`.
        """

    @abstractmethod
    def weights(self, network: nn.Module) -> dict[str, Any]:
        """The state dict for a network, of which only the structure is read.

        Raises:
            UserError: there are no weights, or other ones.
        """

    @abstractmethod
    def training_state(self) -> dict[str, Any]:
        """All that training goes on from: `network`, `optimizer`, `precision` and `progress` (see `checkpoints`).

        The tensors belong to the source and are not to be changed.

        Raises:
            UserError: the checkpoint is not ours.
        """

    def understood(self, network: nn.Module) -> str | None:
        """What was understood of a foreign file whose weights fit a network, as a sentence; None where nothing had to.

        Raises:
            UserError: as `weights`.
        """
        return None

    def images(self) -> dict[str, Any]:
        """What the checkpoint says of the images (see `checkpoints`); nothing where it is older, or not ours."""
        return {}

    def averaged(self) -> Source:
        """The same checkpoint with its averaged weights in the place of the others.

        Raises:
            UserError: it holds none.
        """
        raise UserError(f"{self} holds no averaged weights: it was trained without ema_decay.")

    def stage_graphs(self) -> list[str]:
        """The graphs of a randomly wired network, as `Experiment.stage_graphs`; none where the checkpoint has none."""
        return []


class OwnCheckpoint(Source):
    """A checkpoint that this program wrote.

    Args:
        name: of the file.
        contents: see `checkpoints`.
    """

    def __init__(self, name: str, contents: dict[str, Any]) -> None:
        super().__init__(name)
        self._contents = contents

    def settings(self) -> dict[str, Any]:
        return dict(self._contents["settings"])

    def network_settings(self) -> dict[str, Any]:
        return {}

    def weights(self, network: nn.Module) -> dict[str, Any]:
        return wired_state(self._contents["network"], network)

    def training_state(self) -> dict[str, Any]:
        return self._contents

    def images(self) -> dict[str, Any]:
        return dict(self._contents.get("images", {}))

    def averaged(self) -> Source:
        if "average" not in self._contents:
            return super().averaged()
        return OwnCheckpoint(self._name, {**self._contents, "network": self._contents["average"]["network"]})

    def stage_graphs(self) -> list[str]:
        return list(self._contents["settings"].get("stage_graphs", []))


class WeightsSource(Source):
    """Weights that were exported with their settings; training cannot go on from them.

    Args:
        name: of the file.
        file: what it holds.
    """

    def __init__(self, name: str, file: WeightsFile) -> None:
        super().__init__(name)
        self._state, self._settings, self._names = file.state, dict(file.settings or {}), file.class_names

    def settings(self) -> dict[str, Any]:
        return dict(self._settings)

    def network_settings(self) -> dict[str, Any]:
        return {}

    def weights(self, network: nn.Module) -> dict[str, Any]:
        return wired_state(self._state, network)

    def images(self) -> dict[str, Any]:
        return {"class_names": self._names} if self._names else {}

    def training_state(self) -> dict[str, Any]:
        raise checkpoints.not_ours(self._name)

    def stage_graphs(self) -> list[str]:
        return list(self._settings.get("stage_graphs", []))


class ForeignSource(Source):
    """A checkpoint that other code wrote.

    Args:
        name: by which it was asked for.
        checkpoint: its reader.
    """

    def __init__(self, name: str, checkpoint: pretrained.ForeignCheckpoint) -> None:
        super().__init__(name)
        self._checkpoint = checkpoint

    def settings(self) -> dict[str, Any]:
        if self._checkpoint.app is None:
            raise UserError(f"{self} holds no settings of its own; name its experiment as well, app:<name>.")
        return app_files.read(app_files.find(self._checkpoint.app)).settings

    def network_settings(self) -> dict[str, Any]:
        with _as_user_error():
            return self._checkpoint.settings()

    def weights(self, network: nn.Module) -> dict[str, Any]:
        with _as_user_error():
            return self._checkpoint.weights(network)

    def understood(self, network: nn.Module) -> str | None:
        with _as_user_error():
            return self._checkpoint.understood(network)

    def training_state(self) -> dict[str, Any]:
        raise checkpoints.not_ours(self._name)


def open_source(name: str | Path) -> Source:
    """The checkpoint of that name, opened anew.

    Raises:
        UserError: no such file, a damaged one, or no published network of that name.
    """
    name = str(name)
    with _as_user_error():
        own = pretrained.trained_here(name)
        named = None if own else pretrained.open_named(name)
    if named is not None:
        return ForeignSource(name, named)
    if own or Path(name).suffix == ".safetensors":
        from genutil.saved.exports import weights  # imports safetensors, which our own checkpoints do without

        exported = weights.read(own or Path(name))
        if exported.settings is None:
            return ForeignSource(name, pretrained.StateFile(Path(name), exported.state))
        return WeightsSource(name, exported)
    file = checkpoints.read_file(Path(name))
    if file.ours:
        return OwnCheckpoint(name, file.contents)
    return ForeignSource(name, pretrained.StateFile(Path(name), file.contents))


@contextmanager
def _as_user_error() -> Iterator[None]:
    """What `pretrained` says of a checkpoint that it cannot use, as the user's mistake."""
    try:
        yield
    except (ValueError, OSError) as error:
        raise UserError(str(error)) from error
