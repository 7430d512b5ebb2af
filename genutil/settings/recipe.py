"""The settings of the training."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from genutil.settings.section import Count, Fraction, Index, NotNegative, Positive, Section, Seed, Share

Precision = Literal["32", "64", "bf16", "16"]
FABRIC_PRECISIONS = {"32-true": "32", "64-true": "64", "bf16-mixed": "bf16", "16-mixed": "16"}
"""What Lightning Fabric calls the precisions, which is understood too."""

ScheduleName = Literal["multistep", "cosine", "cosine_by_epoch", "linear", "exponential", "constant", "steps"]


class Recipe(Section):
    """The recipe"""

    num_epochs: Index = Field(160, description="epochs to train")
    num_steps: Count | None = Field(None, description="steps to train; none: num_epochs")
    optimizer: Literal["sgd", "adam", "rmsprop"] = Field("sgd", description="the optimiser")
    lr: NotNegative = Field(0.1, description="learning rate")
    lr_batch_size: Count | None = Field(
        None, description="batch size that lr is meant for: it grows in proportion to batch_size; none: lr as it is"
    )
    accumulate: Count = Field(
        1, description="parts of a batch that a device computes one after the other, for an update of their sum"
    )
    ema_decay: Share | None = Field(
        None, description="decay of an exponential moving average of the weights, kept beside them; none: no average"
    )
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
    precision: Precision = Field("32", description="bits of the arithmetic; bf16 and 16 are mixed, weights stay in 32")
    matmul_precision: Literal["highest", "high", "medium"] | None = Field(
        None,
        description="of float32 products in training: high is TF32 on GPUs, medium bfloat16 on CPUs that have it; "
        "none: high on GPUs, else highest",
    )
    sync_batchnorm: bool = Field(True, description="batch statistics over all processes of ddp")
    seed: Seed = Field(0, description="of every random draw")
    deterministic: bool = Field(
        False,
        description="a GPU repeats a run bit for bit too, more slowly; the CPU does anyway, with the same threads",
    )

    @field_validator("precision", mode="before")
    @classmethod
    def _read_bits(cls, value: Any) -> Any:
        value = str(value) if type(value) is int else value
        return FABRIC_PRECISIONS.get(value, value) if isinstance(value, str) else value

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
