"""The table of data sets: read without torch, true of what it names, open to others."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import data
from data.augmentation import PadCropFlip
from data.sources import ImageSet, MemoryImages, Request
from data.statistics import Normalisation
from genutil.cli import usage
from genutil.config import Experiment
from genutil.run import run

ROOT = Path(__file__).parents[2]


def test_names_are_read_without_torch() -> None:
    code = "import sys, data; print(*data.SETS); print({'torch', 'torchvision', 'numpy', 'PIL'} & set(sys.modules))"
    answer = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert answer.stdout == "digits cifar10 cifar100 mnist imagenet records\nset()\n"


def test_what_needs_torch_is_there_when_it_is_asked_for() -> None:
    assert data.load.__module__ == data.Data.__module__ == data.find.__module__ == "data.loading"
    assert data.Batch.__module__ == data.Loader.__module__ == "data.batches"
    with pytest.raises(AttributeError, match="no attribute 'batch'"):
        _ = data.batch


@pytest.mark.parametrize("name", ["digits", "cifar10"])
def test_an_entry_says_what_its_images_are(name: str, cifar10: Path) -> None:
    entry = data.SETS[name]
    found = entry.read(Request(name, cifar10, verify=False))
    assert entry.classes == len(found.class_names)
    assert entry.normalisation == (found.mean, found.std)


def test_every_reader_is_where_the_table_says() -> None:
    for name, entry in data.SETS.items():
        module, _, function = entry.reader.partition(":")
        code = f"from {module} import {function}"
        exec(code, {})
        assert entry.normalisation is not None or name == "records"
        assert entry.files


def test_a_data_set_with_other_classes_than_its_entry_says_is_refused() -> None:
    entry = data.DataSet(stripes, classes=3)
    with pytest.raises(ValueError, match=r"^stripes has 2 classes, not 3 as data\.SETS says$"):
        entry.read(Request("stripes", None))


def stripes(request: Request) -> ImageSet:
    """Two classes of images 8x8 that a few steps tell apart: columns or rows of random grey."""
    generator = torch.Generator().manual_seed(0)

    def images(count: int) -> MemoryImages:
        labels = torch.arange(count) % 2
        line = torch.randint(256, (count, 1, 1, 8), generator=generator, dtype=torch.uint8).expand(-1, -1, 8, -1)
        return MemoryImages(torch.where(labels.view(-1, 1, 1, 1) == 0, line, line.transpose(2, 3)), labels)

    return ImageSet(images(64), images(32), ["columns", "rows"], 8, (0.5,), (0.3,), PadCropFlip(pad=0, flip=True))


def test_a_data_set_from_outside_is_found_loaded_and_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = data.DataSet(stripes, 2, Normalisation((0.5,), (0.3,)), "nothing: drawn at random")
    monkeypatch.setitem(data.SETS, "stripes", entry)
    assert "\n  stripes     2  nothing: drawn at random\n" in usage.data_sets()
    assert data.load("stripes").class_names == ("columns", "rows")
    experiment = Experiment.from_settings(
        {
            **{"model": "static", "dim": 20, "downsample_dim": 8, "feature_dim": 4, "data": "stripes"},
            **{"image_size": 16, "in_channels": 1, "output_size": 2, "batch_size": 32, "num_epochs": 1, "gpus": []},
            **{"save_dir": str(tmp_path), "log_dir": str(tmp_path)},
        }
    )
    results = run(experiment)
    assert results["images"] == 32
    assert results["settings"]["mean"] == [0.5]
    with pytest.raises(ValueError, match="one of digits, cifar10, cifar100, mnist, imagenet, records, stripes, or"):
        data.load("stripe", tmp_path)
