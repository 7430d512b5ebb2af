"""The measurement of loaders, on few images."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from benchmarks import data as loaders
from benchmarks.photographs import SIDES, drawn, write_folder

CPU = torch.device("cpu")


def test_photographs_are_as_large_as_real_ones(tmp_path: Path) -> None:
    size = write_folder(tmp_path, 4, 224)
    files = sorted((tmp_path / "train").rglob("*.jpg"))
    assert len(files) == len(sorted((tmp_path / "val").rglob("*.jpg"))) == 4
    assert size == pytest.approx(sum(path.stat().st_size for path in files) / 4, abs=1)
    assert 40_000 < size < 200_000
    with Image.open(files[0]) as image:
        assert image.size == SIDES[224]
    assert drawn(1, 8, 8).tobytes() != drawn(2, 8, 8).tobytes()


def test_every_loader_and_the_network_are_measured(tmp_path, monkeypatch, one_thread) -> None:
    monkeypatch.setattr(loaders, "BATCH", {32: 16})
    found, picture = tmp_path / "data.json", tmp_path / "data.png"
    words = ["--sizes", "32", "--workers", "0", "1", "--images", "40", "--repeats", "1", "--seconds", "0.01"]
    monkeypatch.setattr(
        sys, "argv", ["data.py", *words, "--device", "cpu", "--json", str(found), "--picture", str(picture)]
    )
    loaders.main()
    (row,) = json.loads(found.read_text())["sizes"]
    assert set(row["images_per_second"]) == {"memory", "network", "folder 0", "folder 1", "records 0", "records 1"}
    assert min(row["images_per_second"].values()) > 0
    assert row["scaling"]["folder"]["1"] == 1
    assert row["scaling"]["folder"]["0"] == pytest.approx(row["all"]["folder 0"][0] / row["all"]["folder 1"][0])
    with Image.open(picture) as image:
        assert image.width > 300


def test_a_loader_is_read_over_the_ends_of_epochs() -> None:
    reading = loaders.Reading(loaders.memory(32, 300, CPU), CPU)
    batches = reading._endless()
    sizes = [len(next(batches).labels) for _ in range(6)]
    assert sizes == [128, 128, 44, 128, 128, 44]
