"""The settings of one call of the runner on one machine."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from genutil.settings.field_types import OneOf
from genutil.settings.section import Count, FilePath, Index, Section
from models.sparse import engine_names


class Machine(Section):
    """The machine"""

    data_dir: FilePath | None = Field(None, description="folder of the data sets; none: the environment's DATA_DIR")
    download: bool = Field(True, description="fetch a data set that is absent, where torchvision can")
    gpus: list[Index] | None = Field(
        None, description="GPUs to use, [] for the CPU; none: all that there are, or the CPU"
    )
    devices: Annotated[Count, Field(le=1024)] = Field(1, description="processes on the CPU")
    num_nodes: Count = Field(1, description="machines")
    strategy: Literal["ddp", "dp"] = Field("ddp", description="DistributedDataParallel or DataParallel")
    decode: Literal["cpu", "gpu"] = Field(
        "cpu", description="what decodes the JPEG files of a folder; gpu: where torchvision can"
    )
    threads: Annotated[Count, Field(le=1024)] | None = Field(None, description="CPU threads; none: torch's own choice")
    requeue: bool = Field(
        False, description="under SLURM: after SIGUSR1, which saves and stops, ask for the job to be started again"
    )

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
        None,
        description="checkpoint to go on from or to evaluate: a file, pretrained:<name> or keras:<prefix>; "
        "auto: the newest good one of the experiment's runs, and without one it starts anew",
    )
    init_from: FilePath | None = Field(
        None, description="checkpoint whose weights to start from; another number of classes is allowed"
    )
    averaged: bool = Field(
        False, description="take the averaged weights (ema_decay) of the checkpoint that is evaluated or started from"
    )
    evaluate: bool = Field(False, description="evaluate and stop")
    profile: bool = Field(False, description="profile and stop")
    micronet: Literal["imagenet", "cifar100"] | None = Field(
        None, description="with the profile: the storage and operations score of the 2019 MicroNet challenge"
    )
    skip_profiling: bool = Field(False, description="no profile before training or evaluation")
    fast_eval: bool = Field(False, description="evaluate at the cost of the live edges")
    engine: Annotated[str, OneOf(engine_names())] = Field("auto", description="of fast_eval")
    use_dgl: bool = Field(False, description="the same as engine: dgl")
    picture: FilePath | None = Field(
        None, description="file (.png, .svg) for a picture of the network; with profile, nothing else is done"
    )
    json_file: FilePath | None = Field(None, alias="json", description="file for all that was printed")
    results_dir: FilePath | None = Field(
        None, description="folder for a JSON file of a finished training; with evaluate, of the one that resume names"
    )
    seeds: list[Index] | None = Field(None, description="train once with each, and give means and deviations")
    index: list[Index] | None = Field(
        None, description="of the runs of seeds and sweep, counted from 0, train these alone; none: the SLURM array's"
    )
    skip_error_test: bool = Field(
        False, description="of several experiments in a file: train without a quick run first"
    )
    only_batches: Count | None = Field(None, description="use so many batches of an epoch alone, to try a run out")

    @model_validator(mode="after")
    def _fit_invocation(self) -> Self:
        if self.picture and not self.picture.lower().endswith((".png", ".svg")):
            raise ValueError(f"picture is a file that ends in .png or .svg, not {self.picture}")
        if self.micronet and self.skip_profiling and not self.profile:
            raise ValueError("micronet is told with the profile: leave out skip_profiling")
        if self.use_dgl and self.engine not in ("auto", "dgl"):
            raise ValueError(f"use_dgl is engine: dgl, and engine is {self.engine}: give one of them")
        if self.results_dir and self.profile:
            raise ValueError("results_dir keeps what a training reached, and profile does not train")
        if self.results_dir and self.fast_eval:
            raise ValueError("results_dir keeps what the network itself reaches: leave out fast_eval")
        if self.results_dir and self.only_batches:
            raise ValueError("results_dir keeps whole trainings, and only_batches tries one out")
        if self.resume and self.resume != "auto" and self.init_from:
            raise ValueError("resume goes on with a run and init_from starts another: give one of them")
        return self
