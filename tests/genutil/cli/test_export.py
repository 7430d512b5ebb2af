from __future__ import annotations

from pathlib import Path

import pytest

import runner
from genutil.saved.exports.formats import FORMATS
from tests.genutil.saved.exports.checkpoints_made import checkpoint


@pytest.fixture(scope="module")
def static(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint("static", tmp_path_factory.mktemp("static"))


@pytest.mark.parametrize("ending", FORMATS)
def test_a_checkpoint_is_exported(ending: str, static: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    path = tmp_path / f"network{ending}"
    assert runner.main(["export", str(static), str(path)]) == 0
    assert path.stat().st_size > 1000
    out, err = capsys.readouterr()
    assert out.endswith(f"written: {path} ({path.stat().st_size:,} bytes)\n")
    assert not err
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("ending", [".npz", ".pt2", ".c"])
def test_what_cannot_be_exported_is_told_in_a_sentence(ending: str, tmp_path: Path, capfd: pytest.CaptureFixture):
    source = checkpoint("continuous_time", tmp_path)
    path = tmp_path / f"network{ending}"
    assert runner.main(["export", str(source), str(path)]) == 2
    out, err = capfd.readouterr()
    assert not out
    assert err.count("\n") == 1
    assert err.endswith(".\n")
    assert not err.endswith("..\n")
    assert not path.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["CHECKPOINT", "network.tflite"], "its name must end in"),
        (["CHECKPOINT"], "the following arguments are required: file"),
        (["absent.pt", "network.npz"], "There is no checkpoint absent.pt"),
        (["CHECKPOINT", "network.npz", "--dim", "90"], "an evaluation or a profile is of what was trained"),
        (["CHECKPOINT", "network.npz", "--dimm", "90"], "is not a setting"),
        (["CHECKPOINT", "network.npz", "--acting_only"], "--acting_only is of .safetensors files"),
        (["pretrained:dnw", "network.npz"], "There is no published network"),
    ],
)
def test_mistakes_are_told(
    words: list[str],
    message: str,
    static: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
):
    monkeypatch.chdir(tmp_path)
    assert runner.main(["export", *(str(static) if word == "CHECKPOINT" else word for word in words)]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_idle_edges_may_be_left_out(static: Path, tmp_path: Path):
    paths = [tmp_path / "whole.safetensors", tmp_path / "smaller.safetensors"]
    assert runner.main(["export", str(static), str(paths[0])]) == 0
    assert runner.main(["export", str(static), str(paths[1]), "--acting_only"]) == 0
    assert paths[1].stat().st_size < 0.7 * paths[0].stat().st_size
    assert runner.main(["--resume", str(paths[1]), "--profile"]) == 0


def test_settings_may_be_given(static: Path, tmp_path: Path):
    path = tmp_path / "network.c"
    assert (
        runner.main(["export", str(static), str(path), "--mean", "0.5", "0.5", "0.5", "--std", "0.25,0.25,0.25"]) == 0
    )
    assert "channel_mean[3] = {\n0.5f, 0.5f, 0.5f," in path.read_text()
