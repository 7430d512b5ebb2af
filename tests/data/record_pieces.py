"""Pictures, archives and waiting, for the tests of record files."""

from __future__ import annotations

import io
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from data.record_files import write_records
from data.record_makers import raw_record
from tests.data import tfrecords

WNIDS = ("n01440764", "n02102040", "n03000684")


def picture(number: int, mode: str = "RGB", size: tuple[int, int] = (12, 10)) -> Image.Image:
    draws = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(draws).convert(mode)


def waited(found: Callable[[], Any], seconds: float = 30) -> Any:
    """What is found within some seconds, or what is then."""
    deadline = time.monotonic() + seconds
    while not found() and time.monotonic() < deadline:
        time.sleep(0.05)
    return found()


def left(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def jpeg(number: int, mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    picture(number, mode).save(file, "PNG" if mode == "P" else "JPEG")
    return file.getvalue()


def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def all_records(folder: Path) -> list[dict]:
    return [features for path in sorted(folder.glob("[a-z]*-of-*")) for features in tfrecords.records(path)]


def pixels(number: int, side: int = 8, channels: int = 3) -> np.ndarray:
    """uint8 [side, side, channels], another for each number."""
    return np.random.default_rng(number).integers(0, 256, (side, side, channels), dtype=np.uint8)


def write_raw(path: Path, numbers: range, **shape: int) -> None:
    """Write the raw records of such images, of five classes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_records(path, (raw_record(pixels(number, **shape), number % 5) for number in numbers))
