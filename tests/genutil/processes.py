"""What the tests run in several processes; these are started afresh and import it from here."""

from __future__ import annotations

import atexit
import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from torch import Tensor, nn

from genutil.config import Experiment
from genutil.errors import UserError
from genutil.evaluation.scores import evaluate
from genutil.run import work
from genutil.saved import loading
from genutil.saved.source import open_source
from genutil.saved.sources import Sources
from genutil.system.batch_norms import synchronise_batchnorm
from genutil.system.distributed import end_group
from genutil.training.agreement import require_same_edges, same_start
from genutil.training.gradients import Shares, backward, shares
from tests.genutil.parts import Batch, SmallNet, make_data, make_training, recipe

LAYERS = {
    "2d": (lambda: nn.BatchNorm2d(3), (8, 3, 2, 5)),
    "1d": (lambda: nn.BatchNorm1d(3), (8, 3)),
    "sequence": (lambda: nn.BatchNorm1d(3), (8, 3, 4)),
    "3d": (lambda: nn.BatchNorm3d(3), (8, 3, 2, 2, 2)),
    "without weights": (lambda: nn.BatchNorm2d(3, affine=False), (8, 3, 2, 5)),
    "without statistics": (lambda: nn.BatchNorm2d(3, track_running_stats=False), (8, 3, 2, 5)),
    "mean of all batches": (lambda: nn.BatchNorm2d(3, momentum=None), (8, 3, 2, 5)),
}


def layer_and_batch(name: str) -> tuple[nn.Module, Tensor]:
    """A batch norm and a batch far from mean 0 and variance 1, in float64."""
    make, shape = LAYERS[name]
    torch.manual_seed(0)
    layer = make().double()
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    return layer, 100 + 3 * torch.randn(shape, dtype=torch.float64)


def pass_through(layer: nn.Module, batch: Tensor, own: slice) -> dict[str, Tensor]:
    """Output, gradients and statistics of two steps of a layer on the images `own` of a batch, and its evaluation."""
    x = batch[own].clone().requires_grad_()
    (
        layer(x + 1).square().sum() + layer(x).pow(3).mul(torch.arange(3.0).view(-1, *[1] * (x.dim() - 2))).sum()
    ).backward()
    found = {"x.grad": x.grad, "y": layer(x).detach()}
    found |= {f"{name}.grad": parameter.grad for name, parameter in layer.named_parameters()}
    found |= dict(layer.named_buffers())
    layer.eval()
    return found | {"evaluated": layer(x).detach()}


def pass_through_all(fabric: Fabric) -> dict[str, list[dict[str, Tensor]]]:
    """What every process finds for every layer; they have 3 and 5 images of a batch of 8."""
    found = {}
    for name in LAYERS:
        layer, batch = layer_and_batch(name)
        synchronise_batchnorm(layer)
        own = slice(0, 3) if fabric.global_rank == 0 else slice(3, 8)
        mine = pass_through(layer, batch, own)
        everyones: list[Any] = [None, None]
        dist.all_gather_object(everyones, mine)
        found[name] = everyones
    return found


def train_small(fabric: Fabric, folder: Path | None, resume: Path | None = None, sync: bool = True) -> dict[str, Any]:
    """Train SmallNet in float64, with a random wiring beside, on this process's share of the images."""
    data = make_data(70, 15, fabric.global_rank, fabric.world_size, torch.float64)

    def prepare(network: nn.Module, optimizer: Any, progress: Any, fabric: Fabric) -> None:
        if fabric.world_size > 1 and sync:
            synchronise_batchnorm(network)
        if resume:
            progress.restore(loading.resume(open_source(resume), fabric, network, optimizer), resume)

    torch.manual_seed(0)
    network = SmallNet(wiring="dnw" if sync else "random", dropout=0).double()
    experiment = recipe(lr=0.1, clip_grad_norm=1.0, label_smoothing=0.1, weight_decay=0.01, log_interval=2)
    experiment.checkpoint_minutes = 1e-9  # last.pt at every step, of both processes, changes nothing
    first = fabric.global_rank == 0
    training = make_training(folder if first else None, experiment, network, data, fabric, prepare=prepare)
    scores = training.run()
    return {
        "network": {name: value for name, value in network.state_dict().items() if isinstance(value, Tensor)},
        "history": training.progress.history,
        "again": evaluate(fabric, network, data.test.epoch(0)),
        "scores": scores,
    }


def in_parts(fabric: Fabric, parts: int) -> dict[str, Tensor]:
    """The gradients of a batch of 11 images that is computed in parts, in float64, by a network without batch norm."""
    batch = next(make_data(11, 11, fabric.global_rank, fabric.world_size, torch.float64).train.epoch(0))
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 4)).double()
    module = fabric.setup(network)
    backward(fabric, module, batch, recipe(accumulate=parts))
    return {name: parameter.grad for name, parameter in network.named_parameters()}


def shares_where_images_were_left_out(fabric: Fabric) -> Shares:
    """Of a batch of 11 images, of which the second process could not read three."""
    batch = next(make_data(11, 11, fabric.global_rank, fabric.world_size).train.epoch(0))
    if fabric.global_rank:
        batch = Batch(batch.images[3:], batch.labels[3:], batch.total - 3)
    return shares(fabric, batch, uncertain=True)


def drift(fabric: Fabric) -> str:
    """What a process is told when one edge of one of two graphs acts in the second process alone."""
    acting = {"layers.0": torch.arange(100) % 3 == 0, "layers.1": torch.arange(70) % 2 == 0}
    require_same_edges(fabric, acting, 4)
    acting["layers.1"][7 + fabric.global_rank] ^= True
    try:
        require_same_edges(fabric, acting, 5)
    except UserError as error:
        return str(error)
    return ""


def starts(fabric: Fabric) -> list[str | None]:
    """What the first process goes on from, where the second one alone has found a checkpoint, and where none has."""
    second = Experiment(resume="last.pt") if fabric.global_rank else Experiment(init_from="other.pt")
    return [same_start(fabric, experiment).resume for experiment in (second, Experiment())]


def both(fabric: Fabric, folder: Path) -> dict[str, Any]:
    """Everything that needs two processes which work, in one start."""
    (folder / "sync").mkdir(exist_ok=True) if fabric.global_rank == 0 else None
    (folder / "plain").mkdir(exist_ok=True) if fabric.global_rank == 0 else None
    return {
        "training": train_small(fabric, folder / "sync"),
        "plain": train_small(fabric, folder / "plain", sync=False),
        "threads": torch.get_num_threads(),
        "parts": in_parts(fabric, 2),
        "shares": shares_where_images_were_left_out(fabric),
        "drift": drift(fabric),
        "start": starts(fabric),
    }


def fail_in_the_second(fabric: Fabric) -> None:
    """The second process fails while the first waits for it."""
    if fabric.global_rank == 1:
        raise UserError("cat/7.png cannot be read.")
    fabric.barrier()


def die_in_the_second(fabric: Fabric) -> None:
    """The second process is killed while the first waits for it."""
    if fabric.global_rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    fabric.barrier()


def names_of_threads() -> list[str]:
    """Of this process's threads, those of libraries too."""
    return sorted(path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm"))


def threads_before_and_after_the_group_ends(fabric: Fabric, folder: Path) -> tuple[list[str], list[str], bool]:
    """Names of this process's threads while it has a group and after it, a training's modules being out of use."""
    train_small(fabric, folder if fabric.global_rank == 0 else None)
    before = names_of_threads()
    end_group()
    return before, names_of_threads(), dist.is_initialized()


def opens_of_a_run(fabric: Fabric, experiment: Experiment, sources: Sources) -> list[dict[str, int]]:
    """How often each process of a run opens each file with torch, by the file's name."""
    counts: Counter[str] = Counter()
    load = torch.load

    def counting(file: Any, *given: Any, **options: Any) -> Any:
        counts[Path(file).name] += 1
        return load(file, *given, **options)

    torch.load = counting  # this process ends with the run
    work(fabric, experiment, sources)
    everyones: list[Any] = [None] * fabric.world_size
    dist.all_gather_object(everyones, dict(counts))
    return everyones


def train_and_fail(fabric: Fabric, folder: Path) -> None:
    """Train, and end by a mistake; each process notes its threads before it fails and when its interpreter ends."""
    before, at_end = (folder / f"{moment}-{fabric.global_rank}" for moment in ("before", "at-end"))
    train_small(fabric, None)
    before.write_text("\n".join(names_of_threads()))
    atexit.register(lambda: at_end.write_text("\n".join(names_of_threads())))
    fabric.barrier()
    try:
        raise OSError("what was read is gone")
    except OSError as error:
        raise UserError("cat/7.png cannot be read.") from error
