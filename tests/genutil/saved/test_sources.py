"""A run opens every checkpoint once."""

from __future__ import annotations

import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from genutil.cli import command_line
from genutil.run import run
from genutil.saved.sources import Sources
from genutil.system.distributed import launch, make_fabric
from models.networks.resnet import resnet
from tests.genutil import processes
from tests.genutil.runs import tiny


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often PyTorch opened each file, by its name, from here on."""
    counts: Counter[str] = Counter()
    load = torch.load

    def counting(file: Any, *given: Any, **options: Any) -> Any:
        counts[Path(file).name] += 1
        return load(file, *given, **options)

    monkeypatch.setattr(torch, "load", counting)
    return counts


@pytest.fixture
def trained(tmp_path: Path) -> str:
    return run(tiny(tmp_path, num_epochs=1))["checkpoint"]


def go(*words: str) -> dict[str, Any]:
    """What the runner does with these words."""
    sources = Sources()
    line = command_line.parse([*words, "--gpus", "[]"])
    return run(command_line.resolve(line, environment={}, sources=sources), sources)


def test_a_checkpoint_is_opened_once_to_go_on_from_and_to_evaluate(trained: str, opened: Counter[str]) -> None:
    go("--resume", trained, "--evaluate")
    assert opened == {"last.pt": 1}
    go("--resume", trained, "--num_epochs", "2")
    assert opened == {"last.pt": 2}


def test_weights_and_edges_from_others_are_opened_once(tmp_path: Path, opened: Counter[str]) -> None:
    dense = run(tiny(tmp_path, wiring="complete", num_epochs=1))["checkpoint"]
    assert not opened
    run(tiny(tmp_path, init_from=dense, num_epochs=1))
    assert opened == {"last.pt": 1}
    init = str(Path(dense).with_name("init.pt"))
    run(tiny(tmp_path, wiring="fine_tune", use_graph=dense, use_init=init, num_epochs=1))
    assert opened == {"last.pt": 2, "init.pt": 1}


def test_graphs_of_a_randomly_wired_network_are_read_at_the_same_opening(tmp_path: Path, opened: Counter[str]) -> None:
    words = ["app:randwire/mnist_ws", "--data", "digits", "--image_size", "16", "--batch_size", "500", "--num_epochs"]
    places = ["--save_dir", str(tmp_path), "--log_dir", str(tmp_path), "--channel_count", "4", "--skip_profiling"]
    results = go(*words, "1", "--graph_param", "6", "4", "0.75", "--no-report", *places)
    go("--resume", results["checkpoint"], "--evaluate")
    assert opened == {"last.pt": 1}


def test_a_foreign_file_is_read_once(tmp_path: Path, opened: Counter[str]) -> None:
    torch.save({"state_dict": resnet(depth=8, shortcut="A_both").state_dict()}, tmp_path / "resnet8.th")
    app = tmp_path / "resnet8.yml"
    app.write_text("model: resnet\ndepth: 8\ndata: digits\nimage_size: 16\nskip_profiling: true\n")
    go(f"app:{app}", "--resume", str(tmp_path / "resnet8.th"), "--evaluate")
    assert opened == {"resnet8.th": 1}


def test_a_name_is_opened_again_only_after_it_was_forgotten(trained: str, opened: Counter[str]) -> None:
    sources = Sources()
    assert sources.open(trained) is sources.open(Path(trained).parent / "." / "last.pt")
    other = pickle.loads(pickle.dumps(sources))
    assert opened == {"last.pt": 1}
    other.open(trained)
    sources.forget()
    sources.open(trained)
    assert opened == {"last.pt": 3}


def test_each_of_two_processes_opens_a_checkpoint_once(tmp_path: Path, trained: str) -> None:
    experiment = tiny(tmp_path, resume=trained, num_epochs=2, devices=2, gpus=None)
    counts = launch(make_fabric(experiment), processes.opens_of_a_run, experiment, Sources())
    assert counts == [{"last.pt": 1}] * 2
