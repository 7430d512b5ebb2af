"""The published forms of randomly wired networks (Xie et al. 2019, arXiv 1904.01569). Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal


@dataclass(frozen=True)
class Regime:
    """What distinguishes one published form of the network from another.

    Attributes:
        stages: the last stage's number, counting the stem's convolution as 1 (conv1).
        channels: C, the width of the first random stage; each further stage doubles it.
        conv2_stride: stride of the plain convolution behind the stem; None: the random stages begin with conv2.
        init_subsample: the stem has stride 2, else 1.
        stem_norm: BN behind the stem also at stride 1.
        first_stride: stride of the first random stage; the others have 2.
        halve_first: the first random stage has half the nodes.
        separable: 3x3 separable convolutions in the stem and conv2 too, else plain ones.
        bias: convolutions have biases.
        node_inputs: a node is fed by its predecessors or by all its ancestors.
        stage_output: mean or sum of the nodes without successors.
        widen: the nodes that change the number of channels: those without predecessors or those without successors.
        dropout: behind each node.
        drop_edge: probability with which an edge is dropped for an image, in training.
        classifier_dropout: before the linear layer.
    """

    stages: int = 5
    channels: int = 78
    conv2_stride: int | None = 2
    init_subsample: bool = True
    stem_norm: bool = True
    first_stride: int = 2
    halve_first: bool = False
    separable: bool = False
    bias: bool = False
    node_inputs: Literal["predecessors", "ancestors"] = "predecessors"
    stage_output: Literal["mean", "sum"] = "mean"
    widen: Literal["inputs", "outputs"] = "inputs"
    dropout: float = 0.0
    drop_edge: float = 0.0
    classifier_dropout: float = 0.0


_TENSORFLOW = Regime(
    stages=4,
    init_subsample=False,
    stem_norm=False,
    separable=True,
    bias=True,
    node_inputs="ancestors",
    stage_output="sum",
    dropout=0.2,
)

REGIMES: Mapping[str, Regime] = {
    "small": Regime(),
    "regular": Regime(channels=109, conv2_stride=None, halve_first=True, drop_edge=0.1, classifier_dropout=0.2),
    "tensorflow_small": _TENSORFLOW,
    "tensorflow_small_cifar": replace(_TENSORFLOW, conv2_stride=1, classifier_dropout=0.3),
    "tensorflow_regular": replace(_TENSORFLOW, conv2_stride=None),
    "tensorflow_regular_cifar": replace(_TENSORFLOW, conv2_stride=None, classifier_dropout=0.3),
    "mnist": Regime(stages=4, channels=32, conv2_stride=None, init_subsample=False, first_stride=1, widen="outputs"),
}
"""The paper's two; the four of RandWire_tensorflow, of which it trains two on CIFAR; another author's for MNIST."""

OLD_NAMES: Mapping[str, str] = {
    "small_regime": "tensorflow_small",
    "my_small_regime": "tensorflow_small_cifar",
    "regular_regime": "tensorflow_regular",
    "my_regime": "tensorflow_regular_cifar",
}
"""What RandWire_tensorflow calls its regimes, and the names that they have here."""


def random_stages(regime: Regime) -> int:
    """Number of random stages: the plain ones, conv1 and perhaps conv2, do not count."""
    count = regime.stages - (2 if regime.conv2_stride else 1)
    if count < 1:
        raise ValueError(
            f"With stages={regime.stages} there is no random stage; the first is conv{regime.stages - count + 1}."
        )
    return count


def make_regime(name: str, **changes: Any) -> Regime:
    """The regime of that name, or old name, with the changes that are not None.

    Raises ValueError for a name that is in neither REGIMES nor OLD_NAMES, or where the stem, half as wide, would
    have no channels.
    """
    name = OLD_NAMES.get(name, name)
    if name not in REGIMES:
        raise ValueError(f"There is no regime {name!r}; there are {', '.join(REGIMES)}.")
    made = replace(REGIMES[name], **{key: value for key, value in changes.items() if value is not None})
    if made.channels < 2:
        raise ValueError(f"channel_count must be at least 2, for the stem has half of it, not {made.channels}.")
    return made
