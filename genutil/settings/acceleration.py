"""The settings of how a device computes, beside its precision: they change the time of a step, not the recipe."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from genutil.settings.section import Section


class Acceleration(Section):
    """The device's arithmetic"""

    channels_last: bool | Literal["auto"] = Field(
        "auto",
        description="channels of a pixel together in memory; auto: on CPUs, and on GPUs with bf16 or 16",
    )
    compile: bool = Field(False, description="torch.compile the network for training")
    fused: bool | Literal["auto"] = Field(
        "auto", description="the optimiser's fused kernels; auto: on GPUs and CPUs, where there are such"
    )
    keep_memory: bool = Field(True, description="CPU: large tensors' memory stays with a training from step to step")
