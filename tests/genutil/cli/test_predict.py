"""`runner.py predict`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import data
import runner
from genutil.cli import predict
from genutil.evaluation import prediction
from genutil.run import run
from genutil.saved import checkpoints
from models.sparse.engines import UnavailableError
from tests.genutil.runs import ROOT, tiny

OLD = ROOT / "tests" / "data_of_old_states" / "static.pt"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("predict")
    run(tiny(folder, num_epochs=3, threads=1, batch_size=128))
    return folder / "checkpoints" / "tiny" / "last.pt"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Test images of the digits as files."""
    folder = tmp_path_factory.mktemp("pictures")
    pixels = data.find(data.sources.Request("digits", None)).test.pixels[:10, 0].numpy()
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(folder / f"{number}.png")
    return sorted(folder.iterdir())


def predicted(*words: str | Path, status: int = 0) -> None:
    assert runner.main(["predict", *map(str, words)]) == status


def logits(path: Path, images: int) -> torch.Tensor:
    """Of the network of a checkpoint, for the first test images of its data set."""
    from genutil.build import build
    from genutil.config import Experiment
    from genutil.system.one_process import OneProcess

    saved = checkpoints.read(path)["settings"]
    experiment = Experiment.from_saved(saved, {"resume": str(path), "evaluate": True, "test_batch_size": images})
    parts = build(experiment, OneProcess(), torch.device("cpu"), print)
    with torch.no_grad():
        return parts.network.eval()(next(parts.data.test.epoch(0)).images)


@pytest.mark.parametrize("engine", [[], ["--engine", "torch"], ["--engine", "csr"]])
def test_it_predicts_what_an_evaluation_computes(checkpoint, pictures, tmp_path, engine, capsys):
    predicted(checkpoint, pictures[0].parent, "--json", tmp_path / "found.json", "--batch_size", "4", *engine)
    found = json.loads((tmp_path / "found.json").read_text())
    expected = logits(checkpoint, 10).double().softmax(1).sort(1, descending=True)
    assert found["engine"] in {engine[1]} if engine else {"native", "torch"}
    assert [image["file"] for image in found["images"]] == list(map(str, pictures))
    for image, shares, classes in zip(found["images"], expected.values, expected.indices, strict=True):
        assert [guess["number"] for guess in image["guesses"]] == classes[:5].tolist()
        assert [guess["probability"] for guess in image["guesses"]] == pytest.approx(shares[:5].tolist(), abs=1e-5)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(map(str, pictures))
    first = found["images"][0]["guesses"][0]
    assert lines[0].split()[1:3] == [first["class"], f"{100 * first['probability']:.2f}"]


def test_class_names_are_those_of_the_checkpoint(checkpoint, pictures, tmp_path, capsys):
    saved = checkpoints.read(checkpoint)
    assert saved["images"] == {"class_names": [str(digit) for digit in range(10)], "whole": True}
    names = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    torch.save({**saved, "images": {**saved["images"], "class_names": names}}, tmp_path / "named.pt")
    predicted(tmp_path / "named.pt", pictures[0], "--top", "10")
    assert sorted(capsys.readouterr().out.split()[1::3]) == sorted(names)
    torch.save({**saved, "images": {"class_names": ["one"]}}, tmp_path / "wrong.pt")
    predicted(tmp_path / "wrong.pt", pictures[0], status=2)
    assert "10 outputs, and 1 class names" in capsys.readouterr().err


def test_a_checkpoint_without_names_gives_numbers(pictures, tmp_path, capsys):
    predicted(OLD, *pictures[:2], "--json", tmp_path / "found.json")
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["class_names"] is None
    assert all(guess["class"] == str(guess["number"]) for image in found["images"] for guess in image["guesses"])


def test_a_broken_file_is_named_and_left_out(checkpoint, pictures, tmp_path, capsys):
    broken = tmp_path / "broken.png"
    broken.write_bytes(pictures[0].read_bytes()[:-30])
    predicted(checkpoint, pictures[0], broken, pictures[1], "--json", tmp_path / "found.json", status=1)
    printed = capsys.readouterr()
    assert [line.split()[0] for line in printed.out.splitlines()] == [str(pictures[0]), str(pictures[1])]
    assert f"left out: {broken} cannot be read as an image" in printed.err
    assert "1 of 3 files left out" in printed.err
    found = json.loads((tmp_path / "found.json").read_text())
    assert [skipped["file"] for skipped in found["skipped"]] == [str(broken)]
    assert len(found["images"]) == 2


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
@pytest.mark.parametrize("size", [(8, 8), (301, 40)])
def test_any_image_is_read(checkpoint, tmp_path, mode, size, capsys):
    values = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    wide = Image.fromarray((values[..., 0].astype(np.uint16) << 8) + 255)
    image = wide if mode == "I;16" else Image.fromarray(values).convert(mode)
    image.save(tmp_path / "image.tif")
    predicted(checkpoint, tmp_path / "image.tif")
    assert capsys.readouterr().out.startswith(str(tmp_path / "image.tif"))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["missing.pt", "{picture}"], "There is no checkpoint missing.pt."),
        (["{checkpoint}", "missing.png"], "there is no file missing.png."),
        (["{checkpoint}"], "the following arguments are required: files."),
        (["{checkpoint}", "{picture}", "--engine", "warp"], "invalid choice: 'warp'"),
        (["{checkpoint}", "{picture}", "--top", "0"], "at least 1, not 0."),
        (["{checkpoint}", "{picture}", "--app", "vgg11"], "model is static in"),
        (["{checkpoint}", "{picture}", "--json", "missing/found.json"], "cannot be written"),
    ],
)
def test_mistakes_are_sentences(checkpoint, pictures, words, told, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    places = {"checkpoint": checkpoint, "picture": pictures[0]}
    predicted(*(word.format(**places) for word in words), status=2)
    assert told in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_without_a_compiler_torch_runs_the_network_and_says_so(checkpoint, pictures, monkeypatch, capsys):
    def missing() -> None:
        raise UnavailableError("No C++ compiler was found.")

    entry = prediction.ENGINES["native"]
    monkeypatch.setitem(prediction.ENGINES, "native", entry.__class__(**{**vars(entry), "needs": missing}))
    predicted(checkpoint, pictures[0])
    assert "without an engine: No C++ compiler was found." in capsys.readouterr().err


def test_the_classes_of_imagenet_are_known():
    experiment = tiny(Path(), data="imagenet", output_size=1000)
    names = predict.known_names(experiment)
    assert (len(names), names[0], names[999]) == (1000, "tench", "toilet tissue")
    assert predict.known_names(tiny(Path(), data="birds", output_size=1000)) is None
