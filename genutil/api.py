"""Trained networks from Python: load a checkpoint, prepare images for it, export it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from data.augmentation import normalise, own_statistics
from genutil.build import build
from genutil.config import Experiment
from genutil.errors import UserError
from genutil.saved.sources import Sources
from genutil.settings import app_files
from genutil.system.one_process import OneProcess

if TYPE_CHECKING:
    from genutil.saved.exports.content import Exported


@dataclass(frozen=True)
class Trained:
    """A trained network with what its user needs to know of it.

    Attributes:
        experiment: that it was trained by.
        network: in evaluation mode, on the CPU: normalised images [batch, in_channels, image_size, image_size] to
            logits [batch, classes].
        class_names: of the logits, where they are known.
    """

    experiment: Experiment
    network: nn.Module
    class_names: Sequence[str] = ()

    def prepare(self, pixels: Tensor) -> Tensor:
        """Images as the network takes them, float32, from uint8 [batch, in_channels, height, width] of its size.

        Raises:
            UserError: no such images.
        """
        channels = self.experiment.in_channels
        if pixels.dtype != torch.uint8 or pixels.dim() != 4 or pixels.shape[1] != channels:
            raise UserError(
                f"Images are uint8 [batch, {channels}, height, width], not {pixels.dtype} {list(pixels.shape)}."
            )
        if self.experiment.standardise:
            mean, deviation = own_statistics(pixels)
            return (pixels - mean) / deviation
        known = self._exported("network").normalisation
        assert known is not None
        return normalise(pixels, *(torch.tensor(values).view(-1, 1, 1) for values in known))

    def export(self, path: str | Path) -> None:
        """Write the network in the form that the ending of the path says (`genutil.saved.exports.formats.FORMATS`).

        Raises:
            UserError: there is no such form, the network cannot be exported to it, or the file system refuses.
        """
        from genutil.saved.exports import formats

        formats.export(Path(path), self._exported(Path(path).stem))

    def _exported(self, name: str) -> Exported:
        from genutil.saved.exports.content import Exported

        return Exported(self.experiment, self.network, name, self.class_names)


def load(checkpoint: str | Path, app: str | None = None, **settings: Any) -> Trained:
    """The network of a checkpoint.

    Args:
        checkpoint: a file, `pretrained:<name>` or `keras:<prefix>`.
        app: the experiment of weights that name none, as on the command line.
        settings: other values of keys than the checkpoint's.

    Raises:
        UserError: the checkpoint cannot be read or does not fit, or a setting is a mistake.
    """
    sources = Sources()
    given = {**settings, "resume": str(checkpoint), "profile": True}  # so that no data are loaded
    if app is None:
        experiment = Experiment.from_saved(sources.open(checkpoint).settings(), given)
    else:
        experiment = Experiment.from_settings(app_files.read(app_files.find(app), over=given).settings)
    parts = build(experiment, OneProcess(), torch.device("cpu"), lambda _: None, sources)
    names = sources.open(checkpoint).images().get("class_names", ())
    return Trained(parts.experiment, parts.network.eval(), tuple(names))
