"""A few seconds of the real thing, as an experiment and as a command."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor
from torchvision.io import write_png

from genutil.config import Experiment
from genutil.saved import checkpoints

ROOT = Path(__file__).parents[2]


TINY = {
    "name": "tiny",
    "model": "static",
    "wiring": "dnw",
    "prune_rate": 0.7,
    "dim": 60,
    "downsample_dim": 12,
    "feature_dim": 12,
    "layers": 4,
    "data": "digits",
    "image_size": 16,
    "in_channels": 1,
    "batch_size": 256,
    "num_epochs": 2,
    "gpus": [],
    "report": False,
}
"""A few seconds of the real thing: the static tiny classifier on the real digits."""


def tiny(folder: Path, **settings: Any) -> Experiment:
    places = {"save_dir": str(folder / "checkpoints"), "log_dir": str(folder / "runs")}
    return Experiment.from_settings({**TINY, **places, **settings})


def weights(path: str | Path) -> dict[str, Tensor]:
    return {name: value for name, value in checkpoints.read(path)["network"].items() if isinstance(value, Tensor)}


def command(folder: Path, **settings: Any) -> list[str]:
    app = folder / "tiny.yml"
    app.write_text(yaml.safe_dump({key: value for key, value in TINY.items() if key not in ("gpus", "name")}))
    places = {"save_dir": folder / "checkpoints", "log_dir": folder / "runs", "gpus": "[]"}
    words = [str(word) for key, value in {**places, **settings}.items() for word in (f"--{key}", value)]
    return [sys.executable, str(ROOT / "runner.py"), f"app:{app}", *words]


def noise_folders(folder: Path, classes: int, train: int, test: int) -> None:
    """Grey images of 20x20 random pixels in class folders, brighter with the number of the class."""
    generator = torch.Generator().manual_seed(0)
    for split, count in (("train", train), ("val", test)):
        for label in range(classes):
            place = folder / split / str(label)
            place.mkdir(parents=True)
            for number in range(count):
                darkest = 256 // classes * label
                noise = torch.randint(darkest, 256, (1, 20, 20), dtype=torch.uint8, generator=generator)
                write_png(noise, str(place / f"{number}.png"))


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


def wait_for(path: Path, process: subprocess.Popen) -> None:
    until = time.monotonic() + 300
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.02)
