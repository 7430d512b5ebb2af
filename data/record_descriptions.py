"""What our writer notes of record files, in a file beside them, and reading it back."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from data.image_files import open_regular

DESCRIPTION = "records.json"
SHARD = re.compile(
    r"(?P<name>.+)-(?P<shard>\d+)-of-(?P<shards>\d+)(?P<suffix>(\.tfrecords?)?(\.(gz|zlib|zz))?)", re.ASCII
)
LARGEST = 64 << 20
"""Bytes of a description, beyond which it is taken for something else."""


class Description(BaseModel):
    """What a reader of the images wants to know; None for what is not noted.

    Attributes:
        files: of which that holds, as paths from the folder of the description, without a shard's number and suffix.
        class_names: by label.
        image_size: in pixels, that a network sees.
        mean, std: of each channel, images in 0..1.
        pad, flip: of `data.augmentation.PadCropFlip`.
    """

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    files: list[str] = []
    class_names: list[str] | None = None
    image_size: Annotated[int, Field(ge=1, le=16384)] | None = None
    mean: list[float] | None = None
    std: list[Annotated[float, Field(gt=0)]] | None = None
    pad: Annotated[int, Field(ge=0, le=4096)] | None = None
    flip: bool | None = None

    def normalisation(self, mean: Sequence[float], std: Sequence[float]) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and deviation, or those given. Raises ValueError where they are of another number of channels."""
        for noted in (self.mean, self.std):
            if noted and len(noted) not in (1, len(mean)):
                raise ValueError(f"{DESCRIPTION} notes {len(noted)} channels, and the images have {len(mean)}")
        times = len(mean)
        both = (self.mean or mean, self.std or std)
        first, second = (tuple(values) if len(values) == times else tuple(values) * times for values in both)
        return first, second


def description(file: Path) -> tuple[Path, Description] | None:
    """What our writer noted of a file, in its folder or the one above, and where; None for the files of others.

    Raises ValueError where what is noted cannot be read, or is of other types.
    """
    shard = SHARD.fullmatch(file.name)
    stem = shard["name"] if shard else file.stem
    for folder in (file.parent, file.parent.parent):
        place = folder / DESCRIPTION
        if place.exists():
            described = _read(place)
            if (file.parent.relative_to(folder) / stem).as_posix() in described.files:
                return place, described
    return None


def _read(place: Path) -> Description:
    with open_regular(place) as file:
        text = file.read(LARGEST + 1)
    if len(text) > LARGEST:
        raise ValueError(f"{place} is too large to be a description of records")
    try:
        return Description.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"][:2]))
        told = first["msg"][:200]
        if first["type"] == "json_invalid":
            raise ValueError(f"{place} is no JSON ({told})") from error
        raise ValueError(f"{place} does not describe records: {f'{where}: ' if where else ''}{told}") from error
