"""The most probable classes of images, by a network as it is or by an engine that runs it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from data.files import FileBatch
from genutil.errors import UserError
from models.inspection import evaluating
from models.sparse.compile import compile_graph
from models.sparse.engines import ENGINES, UnavailableError
from models.sparse.equality import EngineError, overflows

TORCH = "torch"
"""In the place of an engine's name: the network as it is."""
PREFERRED = "native"


class Running(NamedTuple):
    """A module that gives a network's logits, its engine, and the reason where that is not the one wanted most."""

    module: nn.Module
    engine: str
    reason: str | None = None


def choose_engine(network: nn.Module, engine: str | None, image_size: int, threads: int | None = None) -> Running:
    """The network on an engine; without a name on the native one where that works, else as it is.

    Args:
        network: on its device.
        engine: see `models.sparse.compile_graph`, or TORCH.
        image_size: pixels.
        threads: of the engine; torch's number where None.

    Raises:
        UserError: the engine that was asked for cannot run the network here, or gives something else.
    """
    if engine == TORCH:
        return Running(network, TORCH)
    try:
        if engine is None:
            ENGINES[PREFERRED].require()
        compiled = compile_graph(network, engine or PREFERRED, threads, image_size=image_size)
    except (ValueError, ImportError, EngineError, OverflowError, UnavailableError) as error:
        sentence = str(error).removesuffix(".")
        if engine is not None:
            raise UserError(f"engine {engine}: {sentence}; {TORCH} runs any network.") from error
        return Running(network, TORCH, sentence)
    return Running(compiled, str(compiled.engine))


class Guess(NamedTuple):
    """A class by its number and its name, and its probability (softmax of the logits)."""

    number: int
    name: str
    probability: float


@dataclass(frozen=True)
class Prediction:
    """The most probable classes of the image in a file, the most probable first."""

    file: Path
    guesses: tuple[Guess, ...]

    def to_dict(self) -> dict[str, Any]:
        guesses = [{"class": name, "number": number, "probability": share} for number, name, share in self.guesses]
        return {"file": str(self.file), "guesses": guesses}


@dataclass
class Predictor:
    """Predicts batches of images one after the other.

    Args:
        network: gives logits [batch, classes].
        class_names: of all classes; their numbers where it is None.
        device: of the network.
        top: guesses an image, at most.

    Attributes:
        skipped: files that could not be read so far, with what is wrong.
    """

    network: nn.Module
    class_names: Sequence[str] | None = None
    device: str = "cpu"
    top: int = 5
    skipped: dict[Path, str] = field(default_factory=dict)

    def predict(self, batches: Iterable[FileBatch]) -> Iterator[Prediction]:
        """A prediction for each image, in order.

        Raises:
            UserError: there are fewer or more names than classes, or an engine cannot run an image.
        """
        for batch in batches:
            self.skipped.update(batch.unreadable)
            if batch.files:
                yield from self._of_batch(batch)

    def _of_batch(self, batch: FileBatch) -> Iterator[Prediction]:
        images = batch.images.to(self.device)
        with evaluating(self.network):
            try:
                logits = self.network(images)
            except OverflowError as error:
                alone = zip(batch.files, images.split(1), strict=True)
                files = ", ".join(str(file) for file, image in alone if overflows(self.network, image))
                raise UserError(f"The engine cannot run {files}: {error}.") from error
        classes = logits.shape[1]
        if self.class_names is not None and len(self.class_names) != classes:
            raise UserError(f"The network has {classes} outputs, and {len(self.class_names)} class names are known.")
        best = logits.double().softmax(dim=1).topk(min(self.top, classes))
        for file, indices, shares in zip(batch.files, best.indices.tolist(), best.values.tolist(), strict=True):
            names = [str(index) if self.class_names is None else self.class_names[index] for index in indices]
            yield Prediction(file, tuple(map(Guess, indices, names, shares)))
