"""Small real parts for the tests of a run: networks, and loaders that hold their images in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from genutil.config import Experiment
from genutil.reports.logs import RunLog
from genutil.saved import checkpoints
from genutil.system.interruption import StopRequest
from genutil.system.randomness import reseed
from genutil.training.loop import Training
from genutil.training.optimizers import make_optimizer
from genutil.training.progress import Progress
from genutil.training.schedules import make_schedule
from genutil.training.wiring_watch import WiringWatch
from models.wirings.rules import EdgeLayout, Graph, make_wiring


@dataclass
class Batch:
    images: Tensor
    labels: Tensor
    total: int


class MemoryLoader:
    """Batches of images in memory, shuffled and noised by (epoch, batch), sliced for a process."""

    def __init__(
        self, images: Tensor, labels: Tensor, batch_size: int, shuffle: bool, rank: int = 0, processes: int = 1
    ) -> None:
        self.images, self.labels, self.batch_size, self.shuffle = images, labels, batch_size, shuffle
        self.rank, self.processes = rank, processes

    def __len__(self) -> int:
        return -(-len(self.labels) // self.batch_size)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        order = torch.arange(len(self.labels))
        if self.shuffle:
            order = torch.randperm(len(self.labels), generator=torch.Generator().manual_seed(epoch))
        for number, chosen in list(enumerate(order.split(self.batch_size)))[start:]:
            images = self.images[chosen]
            if self.shuffle:
                noise = torch.Generator().manual_seed(1000 * epoch + number)
                images = images + 0.1 * torch.randn(images.shape, generator=noise, dtype=images.dtype)
            bounds = [len(chosen) * rank // self.processes for rank in (self.rank, self.rank + 1)]
            own = slice(*bounds)
            yield Batch(images[own], self.labels[chosen][own], len(chosen))


@dataclass
class Data:
    train: MemoryLoader
    test: MemoryLoader
    validation: MemoryLoader | None = None


class SmallNet(nn.Module):
    """Conv, BN, ReLU, dropout, a wired linear layer of features, BN, linear: learns the classes of `make_data`."""

    def __init__(self, wiring: str = "dnw", dropout: float = 0.1, classes: int = 4) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.dropout = nn.Dropout(dropout)
        layout = EdgeLayout.full(16, 8 * 16)
        self.graph = Graph(layout, make_wiring(wiring, layout, prune_rate=0.8))
        self.norm2 = nn.BatchNorm1d(16)
        self.linear = nn.Linear(16, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.conv(x))).flatten(1)
        (weight,) = self.graph()
        return self.linear(torch.relu(self.norm2(self.dropout(x) @ weight.t())))


def make_data(
    images: int = 70, batch_size: int = 16, rank: int = 0, processes: int = 1, dtype: torch.dtype = torch.float32
) -> Data:
    """Noisy pictures 4x4 of four patterns; the last training batch is a partial one."""
    generator = torch.Generator().manual_seed(1)
    patterns = torch.randn(4, 1, 4, 4, generator=generator, dtype=dtype)
    labels = torch.randint(4, (images + 30,), generator=generator)
    pictures = patterns[labels] + 0.5 * torch.randn(images + 30, 1, 4, 4, generator=generator, dtype=dtype)
    train = MemoryLoader(pictures[:images], labels[:images], batch_size, True, rank, processes)
    return Data(train, MemoryLoader(pictures[images:], labels[images:], 8, False, rank, processes))


def recipe(**settings: Any) -> Experiment:
    """A short recipe for SmallNet on `make_data`."""
    return Experiment(**{"num_epochs": 3, "lr": 0.05, "batch_size": 16, "output_size": 4, "in_channels": 1, **settings})


def make_training(
    folder: Path | None,
    experiment: Experiment | None = None,
    network: nn.Module | None = None,
    data: Data | None = None,
    fabric: Fabric | None = None,
    stop: StopRequest | None = None,
    log: RunLog | None = None,
    prepare: Callable[[nn.Module, Any, Progress, Fabric], None] = lambda *_: None,
    say: Callable[[str], None] = lambda _: None,
) -> Training:
    """A training of SmallNet; `prepare` may load a checkpoint into network, optimizer and progress."""
    experiment = experiment or recipe()
    fabric = fabric or Fabric(accelerator="cpu", devices=1)
    reseed(experiment.seed, "initial weights")
    network = network or SmallNet()
    data = data or make_data()
    plain = make_optimizer(experiment, network)
    progress = Progress(len(data.train))
    prepare(network, plain, progress, fabric)
    module, optimizer = fabric.setup(network, plain)
    return Training(
        fabric=fabric,
        experiment=experiment,
        network=network,
        module=module,
        optimizer=optimizer,
        schedule=make_schedule(experiment, len(data.train)),
        data=data,
        progress=progress,
        watch=WiringWatch(network),
        log=log or RunLog(None),
        stop=stop or StopRequest(),
        folder=folder,
        settings=experiment.to_saved(),
        say=say,
    )


def saved(path: Path, fabric: Fabric, network: nn.Module | None = None, **settings: Any) -> Path:
    """Write a checkpoint of a network after three epochs and a step of SGD; its path."""
    network = network or SmallNet()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    for parameter in network.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    checkpoints.write(path, checkpoints.contents(fabric, network, optimizer, {"epoch": 3}, {"lr": 0.1, **settings}))
    return path


def settings_alone(path: Path, settings: Mapping[str, Any]) -> Path:
    """Write a checkpoint that holds settings, and no weights; its path."""
    parts: dict[str, Any] = {name: {} for name in ("network", "progress", "precision")}
    parts |= {"optimizer": {"state": {}, "param_groups": []}, "settings": dict(settings)}
    torch.save({"format": checkpoints.FORMAT, "version": checkpoints.VERSION, **parts}, path)
    return path


def state(network: nn.Module) -> dict[str, Tensor]:
    """Copies of the tensors of a network's state."""
    return {name: value.clone() for name, value in network.state_dict().items() if isinstance(value, Tensor)}


def assert_equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    """That two states have the same entries, equal to the last bit."""
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name
