"""Images and labels in folders -> records -> training -> checkpoint -> evaluation, by the runner's own words."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from sklearn.datasets import load_digits

import data
import runner
from data.sources import Request
from genutil.saved import graph_files
from models.networks.random_graphs import draw, to_text

SMALL = ["--graph_param", "6", "4", "0.75", "--channel_count", "8", "--threads", "1", "--gpus", "[]"]


def write_folders(folder, images, labels):
    """Images 0.png, 1.png, … uint8 [n, height, width(, 3)] and their labels 0.txt, 1.txt, …."""
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True)
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        Image.fromarray(image).save(folder / "images" / f"{number}.png")
        (folder / "labels" / f"{number}.txt").write_text(f"{label}\n")


def chain(tmp_path, app, sets, settings):
    """Records of both sets, a run on them, and the evaluation of its last checkpoint; both results."""
    for name, (images, labels) in sets.items():
        write_folders(tmp_path / name, images, labels)
        words = ["--image_dir", f"{tmp_path}/{name}/images", "--label_dir", f"{tmp_path}/{name}/labels"]
        words += ["--output_dir", f"{tmp_path}/records", "--output_filename", f"{name}.tfrecord"]
        assert runner.main(["records", *words]) == 0
    run = [f"app:{app}", "--data", "records", "--save_dir", f"{tmp_path}/c", "--log_dir", f"{tmp_path}/l", *SMALL]
    run += ["--train_records", f"{tmp_path}/records/train.tfrecord"]
    run += ["--test_records", f"{tmp_path}/records/test.tfrecord", "--json", f"{tmp_path}/train.json", *settings]
    assert runner.main(run) == 0
    trained = json.loads((tmp_path / "train.json").read_text())
    words = ["--resume", trained["checkpoint"], "--evaluate", "--json", f"{tmp_path}/test.json", "--gpus", "[]"]
    assert runner.main(words) == 0
    return trained, json.loads((tmp_path / "test.json").read_text())


def test_chain_on_real_digits(tmp_path, capsys):
    digits = load_digits()
    images = (digits.images * 15.9).astype(np.uint8).repeat(2, 1).repeat(2, 2)
    sets = {"train": (images[:1200], digits.target[:1200]), "test": (images[1200:], digits.target[1200:])}
    settings = ["--image_size", "16", "--num_epochs", "4", "--lr", "0.05", "--graph_seed", "4"]
    trained, evaluated = chain(tmp_path, "randwire/mnist_ws", sets, settings)
    assert trained["top1"] > 80
    assert evaluated["top1"] == trained["top1"]

    # the graphs are in the checkpoint, in the run's folder and in its settings; neither seed nor file is needed
    folder = tmp_path / "c" / "randwire" / "mnist_ws"
    kept = yaml.safe_load((folder / "settings.yml").read_text())["stage_graphs"]
    state = torch.load(folder / "last.pt", weights_only=True)
    for stage, text in enumerate(kept):
        graph = graph_files.read(folder / "graphs" / f"dag_{stage}.txt")
        assert graph == graph_files.from_text(text)
        assert graph.seed == (4 * 100 + stage) * 10_000
        assert state["network"][f"stages.{stage}.edges"].tolist() == [list(edge) for edge in graph.edges]
    assert state["settings"]["stage_graphs"] == kept

    # named with its app and another seed, a checkpoint still brings its graphs; other graphs are refused
    words = ["app:randwire/mnist_ws", "--resume", f"{folder}/last.pt", "--profile", "--image_size", "16", *SMALL]
    assert runner.main([*words, "--seed", "7"]) == 0
    other = folder / "graphs" / "dag_1.txt"
    files = [str(folder / "graphs" / f"dag_{stage}.txt") for stage in range(3)]
    other.write_text(to_text(draw("ws", (6, 4, 0.75), 5)))
    assert runner.main([*words, "--graph_files", *files]) == 2
    assert "stage_graphs differs" in capsys.readouterr().err


@pytest.mark.slow
def test_chain_on_real_cifar10(real_data, tmp_path):
    found = data.find(Request("cifar10", real_data, verify=False))
    sets = {}
    for name, images, count in (("train", found.train, 3000), ("test", found.test, 500)):
        pixels = images.pixels[:count].permute(0, 2, 3, 1).numpy()
        sets[name] = (pixels, images.labels[:count].tolist())
    settings = ["--num_epochs", "2", "--lr_scheduler", "cosine", "--lr", "0.02", "--batch_size", "32"]
    settings += ["--dropout_rate", "0"]  # so short a run learns with neither a high rate nor large batches nor dropout
    trained, evaluated = chain(tmp_path, "randwire/cifar10_ws", sets, settings)
    assert trained["top1"] > 20
    assert evaluated["top1"] == trained["top1"]
