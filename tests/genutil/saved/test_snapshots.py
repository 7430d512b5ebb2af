from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from genutil.errors import UserError
from genutil.saved import snapshots


def masks(seed: int) -> dict[str, np.ndarray]:
    draws = np.random.default_rng(seed)
    return {"graph": draws.random(1001) < 0.1, "layer1.0.conv1.weight": draws.random(64) < 0.5}


def test_masks_come_back_as_they_were(tmp_path: Path):
    snapshots.write(tmp_path, 42, 2.0, masks(1))
    snapshots.write(tmp_path, 0, 0.0, masks(0))
    first, second = snapshots.read(tmp_path)
    assert [(s.step, s.epoch) for s in (first, second)] == [(0, 0.0), (42, 2.0)]
    for seed, snapshot in enumerate((first, second)):
        for name, mask in masks(seed).items():
            assert np.array_equal(snapshot.mask(name, len(mask)), mask)


def test_a_graph_of_another_size_or_name_has_no_mask(tmp_path: Path):
    snapshots.write(tmp_path, 0, 0.0, masks(0))
    (found,) = snapshots.read(tmp_path)
    assert found.mask("graph", 2000) is None
    assert found.mask("other", 1001) is None


def test_they_are_small_and_the_same_bit_for_bit(tmp_path: Path):
    mask = {"graph": np.random.default_rng(0).random(1_000_000) < 0.02}
    size = snapshots.write(tmp_path, 5, 0.5, mask)
    content = (tmp_path / "snapshots" / "00000005.npz").read_bytes()
    assert size == len(content) < 1_000_000 / 8 / 2, "bits, compressed"
    snapshots.write(tmp_path, 5, 0.5, mask)
    assert (tmp_path / "snapshots" / "00000005.npz").read_bytes() == content
    assert len(snapshots.read(tmp_path)) == 1


def test_a_damaged_file_is_left_out(tmp_path: Path):
    snapshots.write(tmp_path, 1, 0.1, masks(0))
    snapshots.write(tmp_path, 2, 0.2, masks(1))
    cut = tmp_path / "snapshots" / "00000001.npz"
    cut.write_bytes(cut.read_bytes()[:100])
    (tmp_path / "snapshots" / "notes.npz").write_text("other things")
    assert [snapshot.step for snapshot in snapshots.read(tmp_path)] == [2]
    assert snapshots.read(tmp_path / "nowhere") == []


def test_what_goes_on_elsewhere_takes_them_along(tmp_path: Path):
    source, run = tmp_path / "source", tmp_path / "run"
    source.mkdir()
    run.mkdir()
    for step in (0, 10, 20):
        snapshots.write(source, step, step / 10, masks(step))
    snapshots.carry_over(source, run, 10)
    assert [snapshot.step for snapshot in snapshots.read(run)] == [0, 10]
    assert [snapshot.step for snapshot in snapshots.read(source)] == [0, 10, 20]
    snapshots.carry_over(source, source, 10)
    assert [snapshot.step for snapshot in snapshots.read(source)] == [0, 10]


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path):
    (tmp_path / "snapshots").write_text("a file")
    with pytest.raises(UserError, match=r"^Cannot make the folder .*snapshots: File exists\.$"):
        snapshots.write(tmp_path, 0, 0.0, masks(0))
