"""The settings of what is kept of a run."""

from __future__ import annotations

import os
from pathlib import PurePath
from typing import Annotated, Literal

from pydantic import Field, field_validator

from genutil.errors import shortened
from genutil.settings.section import Count, FilePath, Index, Positive, Section

LONGEST_NAME = 200
"""Bytes of a folder's name, behind which a number and the time still fit."""


class Record(Section):
    """What is kept of the run"""

    name: str | None = Field(None, description="the run's folder in save_dir and log_dir; none: the app's name")
    experiment: str | None = Field(
        None, description="what the run is an experiment of, for results_dir; none: the app's name"
    )
    save_dir: FilePath = Field("./checkpoints", description="folder of checkpoints")
    log_dir: FilePath = Field("./runs", description="folder of logs")
    checkpoint_interval: Count | None = Field(
        None, description="epochs between checkpoints that are kept beside last and best; none: no others"
    )
    checkpoint_minutes: Positive | None = Field(
        None, description="minutes after which last.pt is written within an epoch too; none: where epochs end"
    )
    log_interval: Count | None = Field(
        None, description="steps between training losses in the log; none: those of validations alone"
    )
    val_interval: Count | None = Field(None, description="steps between validations; none: one at the end of an epoch")
    max_eval_steps: Count | None = Field(None, description="steps of a validation, at most; none: all images")

    snapshots: Annotated[Index, Field(le=200)] = Field(
        12, description="of which edges act, kept over the training for the report's slider; 0: none"
    )
    report: bool = Field(True, description="at the end of training, write report.html beside the checkpoints")

    tracker: list[Literal["wandb", "mlflow"]] = Field(
        [], description="services that get curves and pictures as TensorBoard does: Weights & Biases, MLflow"
    )

    @field_validator("tracker")
    @classmethod
    def _once_each(cls, value: list[str]) -> list[str]:
        if len(set(value)) < len(value):
            raise ValueError(f"tracker names one twice: {', '.join(value)}")
        return value

    @field_validator("name")
    @classmethod
    def _stay_inside(cls, value: str | None) -> str | None:
        if value is not None and (PurePath(value).is_absolute() or ".." in PurePath(value).parts):
            raise ValueError(f"name is a folder inside save_dir and log_dir, not {shortened(value)!r}")
        if value is not None and any(len(os.fsencode(part)) > LONGEST_NAME for part in PurePath(value).parts):
            raise ValueError(f"name has at most {LONGEST_NAME} bytes a folder, not as in {shortened(value)!r}")
        if value is not None and not PurePath(value).parts:
            raise ValueError(f"name is a folder inside save_dir and log_dir, not {value!r}")
        return value
