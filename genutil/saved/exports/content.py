"""What is exported of a trained network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from data.statistics import Normalisation
from genutil.config import Experiment
from genutil.errors import UserError


@dataclass(frozen=True)
class Exported:
    """A trained network, and what its user needs to know of it.

    Attributes:
        experiment: that it was trained by.
        network: in evaluation mode, on the CPU.
        name: of the file without its ending.
        class_names: of its outputs, where they are known.
        acting_only: whether the weights of edges that do not act are left out, where the form can do that.
        notices: what the writer has to tell.
    """

    experiment: Experiment
    network: nn.Module
    name: str
    class_names: Sequence[str] = ()
    acting_only: bool = False
    notices: list[str] = field(default_factory=list)

    @property
    def image_size(self) -> int:
        """Height and width of the images in pixels."""
        return self.experiment.image_size

    @property
    def normalisation(self) -> Normalisation | None:
        """Of each channel of the images, in 0..1: the checkpoint's, else the data set's; None where each image is
        standardised by itself."""
        experiment = self.experiment
        if experiment.standardise:
            return None
        if experiment.mean is not None and experiment.std is not None:
            return Normalisation(tuple(experiment.mean), tuple(experiment.std))
        from data.files import normalisation_of  # imports torchvision

        return normalisation_of(experiment.data, experiment.in_channels)

    def described(self) -> dict[str, Any]:
        """What goes with the weights, in types that JSON has."""
        normalisation = self.normalisation
        return {
            "settings": self.experiment.to_saved(),
            "image_size": self.image_size,
            "in_channels": self.experiment.in_channels,
            "mean": normalisation and list(normalisation.mean),
            "std": normalisation and list(normalisation.std),
            "standardise": self.experiment.standardise,
            "class_names": list(self.class_names),
        }


def sentence(error: Exception) -> UserError:
    """What `models` says of a network that it cannot export, as the user's mistake."""
    return UserError(f"{str(error).strip().removesuffix('.')}.")
