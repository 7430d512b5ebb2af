"""Weights that were trained here, by this program: they lie in pretrained/weights, with a catalogue of them.

benchmarks/collect_weights.py puts them there.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"
CATALOGUE = "catalogue.json"
OF_SEED = "-seed_"
"""In the names of weights of other seeds than the median one, before the seed."""


@dataclass(frozen=True)
class Trained:
    """A network that was trained here.

    Attributes:
        name: by which `--resume pretrained:<name>` asks for it; of its file, before .safetensors.
        experiment: that it was trained by.
        seed: of its training, whose last accuracy is the median of all seeds' unless the name has a seed.
        length: of its training, in words.
        top1: of the last weights, on all test images, in percent.
        right_of_first: how many of the first test images are classified rightly, and of how many.
        sha256: sum of its file, in hexadecimal digits.
    """

    name: str
    experiment: str
    seed: int
    length: str
    top1: float
    right_of_first: tuple[int, int]
    sha256: str

    def file(self, folder: Path | None = None) -> Path:
        """Its file, as it was trained.

        Raises:
            FileNotFoundError: it is not there.
            ValueError: it is another one.
        """
        path = (folder or WEIGHTS) / f"{self.name}.safetensors"
        if not path.is_file():
            raise FileNotFoundError(f"The weights {path} are missing.")
        if (found := checksum(path)) != self.sha256:
            raise ValueError(f"{path} is not what was trained: its SHA-256 sum is {found}, not {self.sha256}.")
        return path


def catalogue(folder: Path | None = None) -> dict[str, Trained]:
    """What lies in the folder of weights, by name; nothing where there is no catalogue."""
    path = (folder or WEIGHTS) / CATALOGUE
    if not path.is_file():
        return {}
    entries = [Trained(**{**entry, "right_of_first": tuple(entry["right_of_first"])}) for entry in _read(path)]
    return {entry.name: entry for entry in entries}


def write_catalogue(entries: dict[str, Trained], folder: Path) -> None:
    """Write a folder's catalogue, an entry a line: the old one or the new one is there at any time."""
    lines = ",\n".join(json.dumps(asdict(entries[name])) for name in sorted(entries))
    temporary = folder / f".{CATALOGUE}.tmp"
    temporary.write_text(f"[\n{lines}\n]\n" if lines else "[]\n")
    temporary.replace(folder / CATALOGUE)


def checksum(path: Path) -> str:
    """The SHA-256 sum of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(path: Path) -> list[dict]:
    return json.loads(path.read_text(encoding="utf-8"))
