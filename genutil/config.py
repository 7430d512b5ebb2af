"""An experiment as one typed object.

Its keys are flat, and those that app files had in 2019 keep their names. They stand in sections, a class each: those of
`RUN_SECTIONS` decide what a run is and go into its checkpoints; those of `INVOCATION_SECTIONS` belong to one call of
the runner on one machine and are never taken over from a checkpoint.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import PurePath
from typing import Annotated, Any, Literal, Self, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from data import SETS
from genutil.errors import UserError, nearest
from genutil.settings.field_types import choices, expectation


def _refuse_switch(value: Any) -> Any:
    if isinstance(value, bool):
        raise PydanticCustomError("number_expected", "a switch is no number")
    return value


Whole = Annotated[int, BeforeValidator(_refuse_switch)]
Number = Annotated[float, BeforeValidator(_refuse_switch)]
Count = Annotated[Whole, Field(ge=1)]
Index = Annotated[Whole, Field(ge=0)]
Positive = Annotated[Number, Field(gt=0)]
NotNegative = Annotated[Number, Field(ge=0)]
Share = Annotated[Number, Field(ge=0, lt=1)]
Fraction = Annotated[Number, Field(gt=0, lt=1)]
Chance = Annotated[Number, Field(gt=0, le=1)]
Seed = Annotated[Whole, Field(ge=0, lt=2**32)]
FilePath = Annotated[str, AfterValidator(os.path.expanduser)]

NetworkName = Literal[
    "mobilenetv1_like",
    "static",
    "discrete_time",
    "continuous_time",
    "mobilenetv1",
    "shufflenetv2",
    "resnet",
    "wrn",
    "resnext",
    "vgg",
    "imagenet_resnet",
    "randwire",
]
RegimeName = Literal["small", "regular", "small_regime", "my_small_regime", "regular_regime", "my_regime", "mnist"]
GraphName = Literal[
    "complete",
    "random",
    "dnw",
    "dnw_no_update",
    "fine_tune",
    "td",
    "reg_td",
    "gradual_magnitude",
    "set",
    "rigl",
    "str",
]
SolverName = Literal["dopri5", "rk4", "euler", "midpoint"]
ScheduleName = Literal["multistep", "cosine", "cosine_by_epoch", "linear", "exponential", "constant", "steps"]

SELF_WIRED_NETWORKS = ("mobilenetv1_like", "static", "discrete_time", "continuous_time", "randwire")
"""Networks with graphs of channels of their own; of any other, convolutions and linear layers are wired."""
DEEP_NETWORKS = ("resnet", "wrn", "resnext", "vgg", "imagenet_resnet")


class Section(BaseModel):
    """Settings that belong together."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True, populate_by_name=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _read_loosely(cls, value: Any, info: ValidationInfo) -> Any:
        allowed = choices(cls.model_fields[info.field_name].annotation)
        if type(None) in allowed and (value is False or value in ("", "none", "null")):
            return None
        takes_list = any(get_origin(choice) is list for choice in allowed)
        return [value] if takes_list and value is not None and not isinstance(value, list | tuple) else value


class Network(Section):
    """The network"""

    model: NetworkName = Field("mobilenetv1_like", description="the network")
    output_size: Count = Field(10, description="number of classes")
    image_size: Count = Field(32, description="height and width of the images that the network sees, in pixels")
    in_channels: Count = Field(3, description="channels of the images")
    width_mult: Positive = Field(1.0, description="mobilenetv1, shufflenetv2, resnet, wrn, vgg: factor on the widths")
    depth: Count | None = Field(None, description="resnet, wrn, resnext, vgg, imagenet_resnet: layers with weights")
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
    layers: Count = Field(5, description="tiny classifiers: blocks (static) or steps (discrete_time)")
    solver: SolverName = Field("dopri5", description="continuous_time: dopri5 adapts its steps")
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

    regime: RegimeName = Field("small", description="form of the network, see docs/networks.md")
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


class Wiring(Section):
    """The wiring"""

    graph: GraphName = Field("complete", description="rule of every wired layer")
    prune_rate: Share = Field(0.0, description="share of the edges removed")
    rho: Chance | Literal["gamma"] = Field(
        0.95, description="td, reg_td: chance that a small weight is dropped; gamma is prune_rate"
    )
    budget: Literal["uniform", "erk", "global"] = Field(
        "uniform", description="how layers share the kept edges: equally, by Erdos-Renyi-kernel, or all as one"
    )
    dense_layers: list[str] = Field(
        default_factory=list, description="names of layers that stay dense; * and ? match as in file names"
    )
    wiring_interval: Count = Field(100, description="gradual_magnitude, set, rigl: steps between two changes")
    wiring_begin: Share = Field(0.0, description="gradual_magnitude: share of the steps before the first change")
    wiring_end: Chance = Field(0.75, description="gradual_magnitude, set, rigl: share of the steps with changes")
    wiring_fraction: Chance = Field(0.3, description="set, rigl: share of the acting edges replaced at a change")
    str_initial: Number = Field(-10.0, description="str: where the learned threshold, a sigmoid's argument, starts")
    str_decay: NotNegative = Field(5e-4, description="str: its weight decay, which drives the threshold up")
    use_graph: FilePath | None = Field(
        None, description="fine_tune: checkpoint of the trained complete graph whose top edges are kept"
    )
    use_init: FilePath | None = Field(
        None, description="fine_tune: checkpoint of the untrained weights to start again from"
    )

    @model_validator(mode="after")
    def _fit_wiring(self) -> Self:
        if self.use_graph and self.graph != "fine_tune":
            raise ValueError(f"use_graph belongs to graph: fine_tune, and graph is {self.graph}")
        if self.use_init and not self.use_graph:
            raise ValueError("use_init needs use_graph, the checkpoint that the kept edges come from")
        return self


class Images(Section):
    """The images"""

    data: str = Field("digits", description=f"{', '.join(SETS)} or a folder's name in data_dir")
    train_records: str | None = Field(
        None, description="data: records: TFRecord files to train on, as a file, a folder or a pattern"
    )
    test_records: str | None = Field(None, description="the same for the test images")
    label_offset: Index | None = Field(
        None,
        description="records: the number that labels count from; none: 1 in ImageNet's form, else 0",
    )
    batch_size: Count = Field(128, description="images a training step, over all processes")
    test_batch_size: Count | None = Field(None, description="images an evaluation step; none: batch_size")
    workers: Index = Field(4, description="processes that read folders of images, for each device")
    augment: bool = Field(True, description="crop and flip training images at random")
    mean: list[Number] | None = Field(
        None, description="of each channel, of pixels from 0 to 1; none: the data set's own"
    )
    std: list[Positive] | None = Field(None, description="the same for the standard deviation")
    standardise: bool = Field(
        False, description="normalise each image by its own mean and deviation, instead of mean and std"
    )
    validation_share: Share = Field(
        0.0, description="share of the training images that choose the best checkpoint; 0: test images do"
    )
    verify: bool = Field(True, description="check the md5 sums of the data set's files")
    skip_unreadable: bool = Field(False, description="leave out images that cannot be read, and count them")

    @field_validator("data")
    @classmethod
    def _name_no_class(cls, value: str) -> str:
        if not value or ":" in value:
            raise ValueError(f"data names a data set, such as imagenet or cifar10, not {value!r}")
        return value


class Recipe(Section):
    """The recipe"""

    num_epochs: Index = Field(160, description="epochs to train")
    num_steps: Count | None = Field(None, description="steps to train; none: num_epochs")
    optimizer: Literal["sgd", "adam", "rmsprop"] = Field("sgd", description="the optimiser")
    lr: NotNegative = Field(0.1, description="learning rate")
    momentum: Share = Field(0.9, description="of SGD and RMSprop")
    nesterov: bool = Field(False, description="Nesterov's momentum")
    weight_decay: NotNegative = Field(1e-4, description="L2 penalty's gradient factor")
    decay_norm_and_bias: bool = Field(True, description="weight decay also on norms and biases")
    label_smoothing: Share = Field(0.0, description="share of the target spread over all classes")
    clip_grad_norm: Positive | None = Field(None, description="largest norm of the gradient")
    lr_scheduler: ScheduleName = Field("cosine", description="course of the learning rate")
    multistep_lr_milestones: list[Index | Fraction] = Field(
        default_factory=list,
        description="multistep: epochs, from 0, at which the rate falls; below 1: shares of the training",
    )
    multistep_lr_gamma: Positive = Field(0.1, description="multistep: factor at each milestone")
    lr_values: list[NotNegative] = Field(
        default_factory=list, description="steps: the learning rates, one after the other"
    )
    lr_boundaries: list[Count] = Field(
        default_factory=list, description="steps: until how many steps are done each of them holds"
    )
    exp_decaying_lr_gamma: Positive = Field(0.97, description="exponential: factor an epoch")
    warmup_epochs: NotNegative = Field(0.0, description="epochs of linear rise to the learning rate")
    warmup_steps: Count | Fraction | None = Field(
        None, description="the same in steps; below 1: a share of the training; none: warmup_epochs"
    )
    epoch_len: Count | None = Field(
        None, description="steps that the schedule counts an epoch; none: as many as the data have"
    )
    precision: Literal["32", "bf16", "16"] = Field("32", description="bits of the arithmetic")
    sync_batchnorm: bool = Field(True, description="batch statistics over all processes of ddp")
    seed: Seed = Field(0, description="of every random draw")
    deterministic: bool = Field(
        False,
        description="a GPU repeats a run bit for bit too, more slowly; the CPU does anyway, with the same threads",
    )

    @field_validator("precision", mode="before")
    @classmethod
    def _read_bits(cls, value: Any) -> Any:
        return str(value) if type(value) is int else value

    @model_validator(mode="after")
    def _fit_recipe(self) -> Self:
        milestones = self.multistep_lr_milestones
        if milestones != sorted(milestones):
            raise ValueError(f"multistep_lr_milestones must ascend, not {milestones}")
        if self.lr_scheduler == "multistep" and not milestones:
            raise ValueError("lr_scheduler: multistep needs multistep_lr_milestones, the epochs of its steps")
        if self.lr_scheduler == "steps" and not self.lr_values:
            raise ValueError("lr_scheduler: steps needs lr_values and lr_boundaries")
        if len(self.lr_values) - len(self.lr_boundaries) not in (0, 1):
            raise ValueError("lr_boundaries has a value for each of lr_values, which the last one may lack")
        if self.lr_boundaries != sorted(self.lr_boundaries):
            raise ValueError(f"lr_boundaries must ascend, not {self.lr_boundaries}")
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum above 0")
        if self.nesterov and self.optimizer != "sgd":
            raise ValueError(f"nesterov is a form of sgd; optimizer is {self.optimizer}")
        if self.warmup_steps and self.warmup_epochs:
            raise ValueError("warmup_epochs and warmup_steps both say how long the rate rises: give one of them")
        return self


class Record(Section):
    """What is kept of the run"""

    name: str | None = Field(None, description="the run's folder in save_dir and log_dir; none: the app's name")
    save_dir: FilePath = Field("./checkpoints", description="folder of checkpoints")
    log_dir: FilePath = Field("./runs", description="folder of logs")
    checkpoint_interval: Count | None = Field(
        None, description="epochs between checkpoints that are kept beside last and best; none: no others"
    )
    log_interval: Count | None = Field(
        None, description="steps between training losses in the log; none: those of validations alone"
    )
    val_interval: Count | None = Field(None, description="steps between validations; none: one at the end of an epoch")
    max_eval_steps: Count | None = Field(None, description="steps of a validation, at most; none: all images")

    @field_validator("name")
    @classmethod
    def _stay_inside(cls, value: str | None) -> str | None:
        if value is not None and (PurePath(value).is_absolute() or ".." in PurePath(value).parts):
            raise ValueError(f"name is a folder inside save_dir and log_dir, not {value!r}")
        return value


class Machine(Section):
    """The machine"""

    data_dir: FilePath | None = Field(None, description="folder of the data sets; none: the environment's DATA_DIR")
    download: bool = Field(True, description="fetch a data set that is absent, where torchvision can")
    gpus: list[Index] | None = Field(
        None, description="GPUs to use, [] for the CPU; none: all that there are, or the CPU"
    )
    devices: Count = Field(1, description="processes on the CPU")
    num_nodes: Count = Field(1, description="machines")
    strategy: Literal["ddp", "dp"] = Field("ddp", description="DistributedDataParallel or DataParallel")
    threads: Count | None = Field(None, description="CPU threads; none: torch's own choice")

    @model_validator(mode="after")
    def _fit_machine(self) -> Self:
        if self.gpus is not None and len(set(self.gpus)) < len(self.gpus):
            raise ValueError(f"gpus names one twice: {self.gpus}")
        if self.gpus and self.devices > 1:
            raise ValueError("devices counts processes on the CPU; give it or gpus, not both")
        if self.strategy == "dp" and self.num_nodes > 1:
            raise ValueError("strategy: dp works on one machine; ddp on several")
        return self


class Invocation(Section):
    """What to do"""

    resume: FilePath | None = Field(
        None, description="checkpoint to go on from or to evaluate: a file, pretrained:<name> or keras:<prefix>"
    )
    init_from: FilePath | None = Field(
        None, description="checkpoint whose weights to start from; another number of classes is allowed"
    )
    evaluate: bool = Field(False, description="evaluate and stop")
    profile: bool = Field(False, description="profile and stop")
    skip_profiling: bool = Field(False, description="no profile before training or evaluation")
    fast_eval: bool = Field(False, description="evaluate at the cost of the live edges")
    engine: Literal["pruned", "csr", "dgl", "native", "auto"] = Field("auto", description="of fast_eval")
    use_dgl: bool = Field(False, description="the same as engine: dgl")
    picture: FilePath | None = Field(
        None, description="file (.png, .svg) for a picture of the network; with profile, nothing else is done"
    )
    json_file: FilePath | None = Field(None, alias="json", description="file for all that was printed")
    skip_error_test: bool = Field(
        False, description="of several experiments in a file: train without a quick run first"
    )
    only_batches: Count | None = Field(None, description="use so many batches of an epoch alone, to try a run out")

    @model_validator(mode="after")
    def _fit_invocation(self) -> Self:
        if self.picture and not self.picture.lower().endswith((".png", ".svg")):
            raise ValueError(f"picture is a file that ends in .png or .svg, not {self.picture}")
        if self.use_dgl and self.engine not in ("auto", "dgl"):
            raise ValueError(f"use_dgl is engine: dgl, and engine is {self.engine}: give one of them")
        if self.resume and self.init_from:
            raise ValueError("resume goes on with a run and init_from starts another: give one of them")
        return self


RUN_SECTIONS = (Network, RandomWiring, Wiring, Images, Recipe, Record)
INVOCATION_SECTIONS = (Machine, Invocation)
SECTIONS = RUN_SECTIONS + INVOCATION_SECTIONS


def _keys(sections: tuple[type[Section], ...]) -> dict[str, FieldInfo]:
    return {field.alias or name: field for section in sections for name, field in section.model_fields.items()}


KEYS = _keys(SECTIONS)
"""Every key of an experiment, as app files and the command line spell it, in the order of the sections."""

RUN_KEYS = frozenset(_keys(RUN_SECTIONS))
"""The keys that a checkpoint keeps."""

OTHER_WORDS = {
    "learning_rate": "lr",
    "classes": "output_size",
    "num_classes": "output_size",
    "dataset": "data",
    "wiring": "graph",
    "sparsity": "prune_rate",
    "checkpoint": "resume",
}


class Experiment(Invocation, Machine, Record, Recipe, Images, Wiring, RandomWiring, Network):
    """Everything that decides what a run does. Accuracies are in percent, sizes in pixels, lengths in epochs."""

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.model in SELF_WIRED_NETWORKS and (self.budget != "uniform" or self.dense_layers):
            raise ValueError(f"model {self.model} has graphs of its own, which take no budget and no dense_layers")
        if self.model != "randwire" and self.stages is not None:
            raise ValueError(f"stages counts those of randwire; {self.model} has its own")
        if self.model == "randwire" and self.graph != "complete" and self.graph_model != "complete":
            raise ValueError(
                f"graph: {self.graph} keeps some edges of a complete graph: randwire needs graph_model: complete for it"
            )
        if (self.train_records or self.test_records) and self.data != "records":
            raise ValueError(f"train_records and test_records belong to data: records, and data is {self.data}")
        if self.graph == "gradual_magnitude" and self.wiring_begin >= self.wiring_end:
            raise ValueError("wiring_begin must come before wiring_end")
        for key, values in (("mean", self.mean), ("std", self.std)):
            if values is not None and len(values) != self.in_channels:
                raise ValueError(f"{key} has {len(values)} values for {self.in_channels} channels (in_channels)")
        if (self.mean is None) != (self.std is None):
            raise ValueError("mean and std come together, or neither")
        if self.graph == "fine_tune" and self.trains and not self.resume and not self.use_graph:
            raise ValueError(
                "graph: fine_tune needs use_graph, a checkpoint of the same network trained with graph: complete"
            )
        if self.init_from and self.use_graph:
            raise ValueError("init_from and use_graph both say which weights to start from: give one of them")
        return self

    @property
    def trains(self) -> bool:
        """Whether the run trains, and does not stop after a profile or an evaluation."""
        return not (self.evaluate or self.profile)

    @property
    def profiles(self) -> bool:
        """Whether a profile is printed; `profile` wins over `skip_profiling`."""
        return self.profile or not self.skip_profiling

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any], origins: Mapping[str, str] | None = None) -> Self:
        """Make an experiment of flat settings; keys that are absent take their defaults.

        `origins` says of each key where it was given, for the message ("--lr", "lr (apps/quickstart.yml)").

        Raises UserError for an unknown key (naming the nearest), a wrong type or an impossible value.
        """
        origins = origins or {}
        for key in settings:
            if key not in KEYS:
                where = origins.get(key, str(key))
                raise UserError(f"{where} is not a setting; the nearest is {nearest_key(str(key))}.")
        try:
            return cls.model_validate(dict(settings))
        except ValidationError as error:
            raise UserError(_sentence(error, settings, origins)) from None

    @classmethod
    def from_saved(cls, saved: Mapping[str, Any], overrides: Mapping[str, Any] | None = None) -> Self:
        """Make the experiment of a checkpoint's settings, with other values for the keys of `overrides`.

        What belonged to the invocation that saved them is not taken over. Raises UserError as `from_settings`.
        """
        origins = {key: f"{key} (in the checkpoint)" for key in saved}
        overrides = overrides or {}
        kept = {key: value for key, value in saved.items() if key in RUN_KEYS or key not in KEYS}
        return cls.from_settings({**kept, **overrides}, {**origins, **{key: f"--{key}" for key in overrides}})

    def but(self, **changes: Any) -> Self:
        """The same experiment with other values for some keys, checked as a whole."""
        return self.from_settings({**self.to_dict(), **changes})

    def to_dict(self) -> dict[str, Any]:
        """Every setting, by key, in types that YAML and JSON have; `from_settings` reads it back."""
        plain = self.model_dump(mode="json", by_alias=True)
        return {key: plain[key] for key in KEYS}

    def to_saved(self) -> dict[str, Any]:
        """What defines the run, for its checkpoints and as an app file; `from_saved` reads it back."""
        return {key: value for key, value in self.to_dict().items() if key in RUN_KEYS}


def nearest_key(word: str) -> str:
    """The key that somebody who wrote `word` most likely meant."""
    found = nearest(word, [*KEYS, *OTHER_WORDS])
    return OTHER_WORDS.get(found, found)


def _sentence(error: ValidationError, settings: Mapping[str, Any], origins: Mapping[str, str]) -> str:
    first = error.errors(include_url=False)[0]
    if first["type"] == "value_error":
        return f"{first['ctx']['error']}."
    key = str(first["loc"][0])
    return f"{origins.get(key, key)} must be {expectation(KEYS[key])}, not {_shown(settings[key])}."


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
