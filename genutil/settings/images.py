"""The settings of the images."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from data import SETS
from data.image_files import MAX_IMAGE_PIXELS
from genutil.settings.section import Count, Index, Number, Positive, Section, Share


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
    workers: Annotated[Index, Field(le=1024)] = Field(
        4, description="processes that read folders of images, for each device"
    )
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
    max_image_pixels: Count = Field(
        MAX_IMAGE_PIXELS, description="width x height of the largest image of a file; larger ones are unreadable"
    )

    @field_validator("data")
    @classmethod
    def _name_no_class(cls, value: str) -> str:
        if not value or ":" in value:
            raise ValueError(f"data names a data set, such as imagenet or cifar10, not {value!r}")
        return value
