"""One decoder for every image: those of class folders, of encoded records, and those that records are made from.

Alpha is dropped and a rotation noted in EXIF is not applied, as in torchvision's own loader.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor

from data.image_files import MAX_IMAGE_PIXELS, open_regular
from data.sources import UnreadableImageError

MODES = {1: "L", 3: "RGB"}
"""Pillow's name of an image's form by its number of channels."""
FORMATS = ("JPEG", "PNG", "MPO", "PPM", "BMP", "DIB", "TIFF", "WEBP", "GIF", "JPEG2000", "AVIF")
"""What is decoded, whatever a file's name says. Not among them: formats that run another program, such as EPS."""
BITS_PER_SAMPLE = 258
"""The number of that tag in a TIFF file."""
_limit = threading.Lock()


@contextmanager
def open_image(source: str | Path | bytes, name: str, max_pixels: int = MAX_IMAGE_PIXELS) -> Iterator[Image.Image]:
    """An image of a file or of its bytes; nothing but its head is read before its pixels are asked for.

    Args:
        source: the file's path, or its contents.
        name: by which errors call it.
        max_pixels: of the largest image that is opened.

    Raises:
        UnreadableImageError: it is no image, it is larger, or what is done with it in the block fails.
    """
    try:
        with (
            io.BytesIO(source) if isinstance(source, bytes) else open_regular(source) as file,
            _opened(file) as image,
        ):
            width, height = image.size
            if width * height > max_pixels:
                raise UnreadableImageError(
                    f"{name} is an image of {width}x{height} pixels, which is more than max_image_pixels {max_pixels} "
                    "allows"
                )
            yield image
    except UnreadableImageError:
        raise
    except Exception as error:  # each of Pillow's formats has its own ways to fail
        raise UnreadableImageError(f"{name} cannot be read as an image ({error})") from error


def _opened(file: BinaryIO) -> Image.Image:
    """Without Pillow's own limit, which only warns up to twice its value; threads may do so at the same time."""
    with _limit:
        kept = Image.MAX_IMAGE_PIXELS
        try:
            Image.MAX_IMAGE_PIXELS = None
            return Image.open(file, formats=_formats())
        finally:
            Image.MAX_IMAGE_PIXELS = kept


def decode(source: str | Path | bytes, name: str, channels: int, max_pixels: int = MAX_IMAGE_PIXELS) -> Tensor:
    """The pixels of an image, uint8 [channels, height, width], of 1 or 3 channels. Arguments, errors: `open_image`."""
    with open_image(source, name, max_pixels) as image:
        return pil_to_tensor(eight_bits(image).convert(MODES[channels]))


def eight_bits(image: Image.Image) -> Image.Image:
    """The same image where its samples have 8 bits; the upper 8 of those of more.

    Raises ValueError where the range of its values is not defined: 32-bit integers and floating point.
    """
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        bits = _bits(image)
        return Image.fromarray((np.asarray(image) >> (bits - 8)).astype(np.uint8))
    if image.mode in ("I", "F"):
        kind = "integers" if image.mode == "I" else "floating-point numbers"
        raise ValueError(
            f"its mode is {image.mode}, {kind} of 32 bits whose range is not defined: save it with 8 or 16 bits"
        )
    return image


def _bits(image: Image.Image) -> int:
    """Of a sample of a grey image with more than 8: 16, or as many as a TIFF file says."""
    if image.format != "TIFF":
        return 16
    samples = image.getexif().get(BITS_PER_SAMPLE, 16)
    return max(8, min(16, int(samples[0] if isinstance(samples, tuple) else samples)))


@cache
def _formats() -> tuple[str, ...]:
    """Those of `FORMATS` that this Pillow knows."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)
