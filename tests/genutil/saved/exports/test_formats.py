from __future__ import annotations

from pathlib import Path

import pytest

import runner
from genutil.errors import UserError
from genutil.saved.exports import formats
from models.registry import resolve
from tests.genutil.saved.exports.checkpoints_made import exported


def test_every_form_has_its_writer():
    for ending, form in formats.FORMATS.items():
        assert callable(resolve(form.place)), ending


def test_the_ending_chooses(tmp_path: Path):
    path = tmp_path / "wiring.edgelist"
    assert formats.export(path, exported("randwire")) == path.stat().st_size
    source, target, weight = path.read_text().splitlines()[0].split()
    assert source.split("/")[0] == target.split("/")[0] == "stages.0"
    assert 0 < float(weight) < 1.1


def test_another_ending_is_told_with_those_that_there_are(tmp_path: Path):
    with pytest.raises(UserError, match=r"must end in \.safetensors, \.npz, .*\.c\."):
        formats.find(tmp_path / "network.tflite")


def test_a_file_that_cannot_be_is_told_before_anything_is_read(tmp_path: Path, capsys: pytest.CaptureFixture):
    assert runner.main(["export", "absent.pt", str(tmp_path / "none" / "network.c")]) == 2
    assert "there is no folder to hold it" in capsys.readouterr().err
