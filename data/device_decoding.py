"""JPEG files that the device decodes: worker processes only read them, and decode what the device cannot."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import nullcontext
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.io import ImageReadMode, decode_jpeg

from data.augmentation import mixed_seed, torch_seeded
from data.decoding import open_image
from data.sources import Source, UnreadableImageError

Job = tuple[int, list[int]]
"""An epoch, and the indices of the images to be read for it."""
PLAIN_MODES = {"RGB": 3, "L": 1, "YCbCr": 3}
"""Pillow's names of the forms of JPEG files that every decoder reads alike."""


@runtime_checkable
class HasEncoded(Protocol):
    """A source whose images are files of some format."""

    max_pixels: int

    def encoded(self, index: int) -> tuple[bytes, str]:
        """The contents of an image's file, and what errors call it; raises `UnreadableImageError`."""
        ...


class Files(NamedTuple):
    """What a worker has read.

    Attributes:
        values: uint8, the bytes of all files one behind the other.
        shapes: of each: [bytes] of a file that is still encoded, [channels, height, width] of decoded pixels.
        epoch: that they were read for.
    """

    values: Tensor
    shapes: list[list[int]]
    epoch: int

    def parts(self) -> list[Tensor]:
        sizes = [torch.Size(shape).numel() for shape in self.shapes]
        return [part.view(shape) for part, shape in zip(self.values.split(sizes), self.shapes, strict=True)]


Result = tuple[Files, Tensor, list[tuple[int, str]]]
"""Files, the images' indices int64 [n], the other indices with what is wrong."""


class FileReader(Dataset[Result]):
    """What a worker process does: read files, and decode those that are no plain JPEG."""

    def __init__(self, source: Source) -> None:
        self.source = source

    def __getitem__(self, job: Job) -> Result:
        epoch, indices = job
        parts, readable, unreadable = [], [], []
        for index in indices:
            try:
                parts.append(self._part(index))
                readable.append(index)
            except UnreadableImageError as error:
                unreadable.append((index, str(error)))
        values = torch.cat([part.flatten() for part in parts]) if parts else torch.empty(0, dtype=torch.uint8)
        files = Files(values, [list(part.shape) for part in parts], epoch)
        return files, torch.tensor(readable, dtype=torch.int64), unreadable

    def _part(self, index: int) -> Tensor:
        if isinstance(self.source, HasEncoded):
            contents, name = self.source.encoded(index)
            with open_image(contents, name, self.source.max_pixels) as image:
                plain = image.format == "JPEG" and image.mode in PLAIN_MODES
            if plain:
                return torch.frombuffer(bytearray(contents), dtype=torch.uint8)
        return self.source.decode(index)


class DeviceDecoder:
    """Decodes, crops and flips on a device what workers have read, with the draws that they would have made.

    Pixels may differ by rounding from those that a processor decodes.

    Args:
        source: of the images.
        size: of the crops in pixels.
        transform: uint8 [channels, height, width] to [channels, size, size].
        seed: of the transform's draws; None where there are none.
        device: that decodes.
    """

    def __init__(
        self, source: Source, size: int, transform: Callable[[Tensor], Tensor], seed: int | None, device: torch.device
    ) -> None:
        self.source, self.size, self.transform, self.seed, self.device = source, size, transform, seed, device
        self._mode = ImageReadMode.GRAY if source.channels == 1 else ImageReadMode.RGB

    def __call__(self, result: Result) -> tuple[Tensor, Tensor, list[tuple[int, str]]]:
        """Images uint8 [n, channels, size, size] on the device, their indices, and what could not be read.

        Raises ValueError where this torchvision cannot decode on the device.
        """
        files, indices, unreadable = result
        images, readable = [], []
        for image, index in zip(self._decoded(files, indices), indices.tolist(), strict=True):
            if isinstance(image, str):
                unreadable = [*unreadable, (index, image)]
                continue
            seed = self.seed
            with nullcontext() if seed is None else torch_seeded(mixed_seed(seed, files.epoch, index + 1)):
                images.append(self.transform(image))
            readable.append(index)
        empty = torch.empty(0, self.source.channels, self.size, self.size, dtype=torch.uint8, device=self.device)
        return torch.stack(images) if images else empty, torch.tensor(readable, dtype=torch.int64), unreadable

    def _decoded(self, files: Files, indices: Tensor) -> list[Tensor | str]:
        """Each image's pixels on the device, or what is wrong with it."""
        parts = files.parts()
        encoded = [part for part in parts if part.dim() == 1]
        try:
            decoded = iter(self._decode(encoded))
        except RuntimeError as error:
            if "nvjpeg" in str(error).lower() and "compil" in str(error).lower():
                raise ValueError(f"decode: gpu needs a torchvision that decodes on GPUs ({error})") from error
            return [self._decoded_here(index) for index in indices.tolist()]
        return [next(decoded) if part.dim() == 1 else part.to(self.device) for part in parts]

    def _decode(self, encoded: list[Tensor]) -> list[Tensor]:
        if not encoded:
            return []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torchvision announces another package, which needs FFmpeg
            return list(decode_jpeg(encoded, self._mode, self.device))

    def _decoded_here(self, index: int) -> Tensor | str:
        """An image of a batch of which the device could not decode one: that one is told by its name."""
        try:
            return self.source.decode(index).to(self.device)
        except UnreadableImageError as error:
            return str(error)
