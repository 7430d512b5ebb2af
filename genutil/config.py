"""An experiment as one typed object.

Names of keys follow the app files of 2019 where those have one, so that they run unchanged; `ALIASES` holds the
spellings of that time that mean a key of today.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Rate = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]

GraphName = Literal["complete", "random", "dnw", "dnw_no_update", "fine_tune", "td", "reg_td"]
ScheduleName = Literal["multistep", "cosine", "linear", "exponential", "constant"]


class Experiment(BaseModel):
    """Everything that decides what a run does. Accuracies are in percent, sizes in pixels, lengths in epochs."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True, strict=False)

    # the network
    model: str = "mobilenetv1_like"
    output_size: Count = Field(10, description="number of classes")
    image_size: Count = Field(32, description="height and width of the images that the network sees")
    in_channels: Count = 3
    graph: GraphName = Field("complete", description="the wiring of every wired layer")
    prune_rate: Rate = Field(0.0, description="share of the edges removed")
    rho: float | Literal["gamma"] = Field(0.95, description="td, reg_td: chance that a small weight is dropped")
    small: bool = Field(False, description="mobilenetv1_like: wire the classifier as well")
    width_mult: Annotated[float, Field(gt=0)] = 1.0
    dim: Count = Field(800, description="tiny classifiers: channels of the state")
    downsample_dim: Count = Field(32, description="tiny classifiers: channels of the stem")
    feature_dim: Count = Field(100, description="tiny classifiers: channels read out")
    layers: Count = Field(5, description="tiny classifiers: blocks (static) or steps (discrete time)")
    solver: Literal["dopri5", "rk4", "euler", "midpoint"] = Field("dopri5", description="continuous time")
    solver_steps: Count = Field(10, description="continuous time: steps of a fixed-step solver")
    tolerance: Annotated[float, Field(gt=0)] = Field(1e-3, description="continuous time: rtol and atol")
    relu_in_place: bool = Field(
        True, description="continuous time: the solver's state is replaced by its ReLU, as in 2019"
    )
    use_graph: str | None = Field(None, description="fine_tune: checkpoint of the trained complete graph")
    use_init: str | None = Field(None, description="fine_tune: checkpoint whose weights training starts from")

    # the data
    data: str = "digits"
    data_dir: str | None = None
    batch_size: Count = Field(128, description="images a training step, over all processes")
    test_batch_size: Count | None = Field(None, description="images an evaluation step; batch_size where absent")
    workers: Annotated[int, Field(ge=0)] = 4
    download: bool = Field(True, description="fetch a data set that is absent, where torchvision can")
    verify: bool = Field(True, description="check the md5 sums of the data set's files")
    skip_unreadable: bool = Field(False, description="leave out images that cannot be read, and count them")
    augment: bool = True
    mean: list[float] | None = Field(
        None, description="of each channel, images in 0..1; the data set's own where absent"
    )
    std: list[float] | None = None
    validation_share: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0,
        description="share of the training images held out to choose the best checkpoint; 0 chooses on the test images",
    )

    # the recipe
    num_epochs: Annotated[int, Field(ge=0)] = 160
    optimizer: Literal["sgd"] = "sgd"
    lr: Annotated[float, Field(ge=0)] = 0.1
    momentum: Rate = 0.9
    nesterov: bool = False
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    decay_norm_and_bias: bool = Field(True, description="weight decay also on norms and biases")
    label_smoothing: Rate = 0.0
    clip_grad_norm: Annotated[float, Field(gt=0)] | None = None
    lr_scheduler: ScheduleName = "cosine"
    multistep_lr_milestones: list[Annotated[int, Field(ge=0)]] = Field(
        default_factory=list, description="epochs, from 0"
    )
    multistep_lr_gamma: Annotated[float, Field(gt=0)] = 0.1
    exp_decaying_lr_gamma: Annotated[float, Field(gt=0)] = 0.97
    warmup_epochs: Annotated[float, Field(ge=0)] = 0.0
    epoch_len: Count | None = Field(
        None, description="steps an epoch has for the schedule, where not the data's own number"
    )
    seed: Annotated[int, Field(ge=0)] = 0

    # the machine
    gpus: list[Annotated[int, Field(ge=0)]] | None = Field(None, description="devices; all, or the CPU, where absent")
    devices: Count = Field(1, description="processes on the CPU")
    strategy: Literal["ddp", "dp"] = "ddp"
    num_nodes: Count = 1
    precision: Literal["32", "bf16", "16"] = "32"
    sync_batchnorm: bool = Field(
        True, description="batch statistics over all processes (ddp), so that their number does not matter"
    )
    threads: Count | None = Field(None, description="CPU threads of torch")

    # the run
    resume: str | None = None
    init_from: str | None = None
    evaluate: bool = False
    profile: bool = False
    skip_profiling: bool = False
    save_dir: str = "./checkpoints"
    log_dir: str = "./runs"
    checkpoint_interval: Count | None = Field(
        None, description="epochs between periodic checkpoints; none where absent"
    )
    json_file: str | None = Field(None, alias="json")
    fast_eval: bool = False
    use_dgl: bool = False
