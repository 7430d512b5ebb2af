"""The settings of the network."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from genutil.settings.field_types import OneOf
from genutil.settings.section import Chance, Count, FilePath, Number, Positive, Section, Seed, Share
from models import NETWORKS
from models.networks.randwire_regimes import OLD_NAMES, REGIMES
from models.networks.solvers import SOLVERS

Depth = Annotated[Count, Field(le=10_000)]
Width = Annotated[Positive, Field(le=1000)]

SELF_WIRED_NETWORKS = ("mobilenetv1_like", "static", "discrete_time", "continuous_time", "randwire")
"""Networks with graphs of channels of their own; of any other, convolutions and linear layers are wired."""
DEEP_NETWORKS = ("resnet", "wrn", "resnext", "vgg", "imagenet_resnet")


class Network(Section):
    """The network"""

    model: Annotated[str, OneOf(NETWORKS)] = Field("mobilenetv1_like", description="the network")
    output_size: Count = Field(10, description="number of classes")
    image_size: Count = Field(32, description="height and width of the images that the network sees, in pixels")
    in_channels: Count = Field(3, description="channels of the images")
    width_mult: Width = Field(1.0, description="mobilenetv1, shufflenetv2, resnet, wrn, vgg: factor on the widths")
    depth: Depth | None = Field(None, description="resnet, wrn, resnext, vgg, imagenet_resnet: layers with weights")
    block: Literal["v1", "v2"] = Field("v1", description="resnet: the original block, or the pre-activated one")
    shortcut: Literal["A", "A_both", "B"] | None = Field(
        None,
        description="resnet, wrn, resnext: where shapes change, zeros after (A) or on both sides of the channels, or "
        "a 1x1 conv (B); none: as published",
    )
    cardinality: Count = Field(8, description="resnext: groups of the 3x3 convs")
    base_width: Count = Field(64, description="resnext: channels of a group in the first stage")
    dropout: Share = Field(0.0, description="resnet, wrn: chance that a channel's value is dropped within a block")
    padding: Literal["symmetric", "same_tensorflow"] = Field(
        "symmetric", description="resnet, wrn, resnext: of strided convs; same_tensorflow pads the end alone"
    )
    bn_epsilon: Positive = Field(1e-5, description="resnet, wrn, resnext, vgg: added to the variance by norms")
    bn_momentum: Chance = Field(0.1, description="the same: share of a batch in the running statistics")
    activation_checkpointing: bool = Field(
        False, description="resnet, wrn, resnext: less memory, for a second forward pass of each block"
    )
    small: bool = Field(False, description="mobilenetv1_like: wire the classifier as well")
    dim: Count = Field(800, description="tiny classifiers: channels of the state")
    downsample_dim: Count = Field(32, description="tiny classifiers: channels of the stem")
    feature_dim: Count = Field(100, description="tiny classifiers: channels read out")
    layers: Depth = Field(5, description="tiny classifiers: blocks (static) or steps (discrete_time)")
    solver: Annotated[str, OneOf(SOLVERS)] = Field("dopri5", description="continuous_time: dopri5 adapts its steps")
    solver_steps: Count = Field(10, description="continuous_time: steps of a fixed-step solver")
    tolerance: Positive = Field(1e-3, description="continuous_time: relative and absolute tolerance of dopri5")
    relu_in_place: bool = Field(
        True, description="continuous_time: the ReLU changes the solver's own state, as in 2019"
    )

    @model_validator(mode="after")
    def _fit_network(self) -> Self:
        if self.small and self.model != "mobilenetv1_like":
            raise ValueError(f"small wires the classifier of mobilenetv1_like; {self.model} has no such form")
        if self.model in DEEP_NETWORKS and self.depth is None:
            raise ValueError(f"model {self.model} needs a depth, as in depth: 20")
        return self


class RandomWiring(Section):
    """Randomly wired networks (model: randwire); none: as the regime has it"""

    regime: Annotated[str, OneOf(REGIMES, OLD_NAMES)] = Field(
        "small", description="form of the network, see docs/networks.md"
    )
    channel_count: Count | None = Field(None, description="channels of the first random stage")
    stages: Count | None = Field(None, description="number of the last stage, the stem being the first")
    graph_model: Literal["er", "ba", "ws", "complete"] = Field("ws", description="generator of the stages' graphs")
    graph_param: list[Number] = Field(
        default_factory=lambda: [32, 4, 0.75],
        description="nodes, then p (er), m (ba), k and p (ws), or numbers of input and output nodes (complete)",
    )
    graph_seed: Seed | None = Field(None, description="of the graphs; none: seed")
    graph_files: list[FilePath] = Field(
        default_factory=list,
        description="files of graphs to use instead, one for each random stage: .txt or .adjlist, .edgelist, .graphml",
    )
    stage_graphs: list[str] = Field(
        default_factory=list, description="adjacency lists of the graphs; a run keeps there what it drew or read"
    )
    node_inputs: Literal["predecessors", "ancestors"] | None = Field(None, description="what feeds a node")
    stage_output: Literal["mean", "sum"] | None = Field(None, description="of the nodes that feed no other")
    widen: Literal["inputs", "outputs"] | None = Field(
        None, description="nodes that change the number of channels: those that nothing feeds, or that feed none"
    )
    init_subsample: bool | None = Field(None, description="stride 2 in the first convolution")
    separable_stem: bool | None = Field(None, description="separable convolutions before the random stages too")
    dropout_rate: Share | None = Field(None, description="dropout behind each node")
    drop_edge: Share | None = Field(None, description="chance that an edge is dropped for an image, in training")
    classifier_dropout: Share | None = Field(None, description="dropout before the linear layer")

    @model_validator(mode="after")
    def _fit_random_wiring(self) -> Self:
        if self.graph_files and self.stage_graphs:
            raise ValueError("graph_files and stage_graphs both give the graphs: keep one of them")
        return self
