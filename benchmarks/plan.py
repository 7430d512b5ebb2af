"""The arithmetic of training ImageNet on 8 machines with 8 GPUs each, for docs/many_machines.md.

    python benchmarks/plan.py [--json benchmarks/results/plan.json]

What is known of the networks is counted on them; what is assumed of machines stands in `Machines`, with its source. A
measured time of a step (benchmarks/gpu.py) may take the place of the estimate.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.conditions import conditions
from genutil.build import build_network
from genutil.config import Experiment
from genutil.model_profiling import profile
from genutil.settings import app_files
from models.networks.planes import torch_form

ROOT = Path(__file__).resolve().parents[1]
EXPERIMENTS = ("large_scale/mobilenetv1_dnw_x225", "large_scale/mobilenetv1_dnw_x49", "sparsity/resnet50_dnw_10")
IMAGES, ARCHIVE_BYTES = 1_281_167, 147_897_477_120
"""Training images of ILSVRC2012, and the size of their archive."""
DAY = 24 * 3600.0


@dataclass(frozen=True)
class Machines:
    """What is assumed of the machines.

    Attributes:
        count, gpus: machines, and GPUs of each.
        flops: a GPU's multiplications and additions a second in bfloat16 (H100 SXM, data sheet, dense).
        memory: bytes a second of its memory (the same).
        link: bytes a second that it sends to its neighbours (NVLink 4, one direction).
        network: bytes a second that a machine sends to the others (8 x 400 Gbit/s, as DGX H100 has).
        latency: seconds of an all-reduce of a few numbers over all GPUs.
        reached: share of the roofline that a step reaches.
        movements: how often each byte that backward needs is moved: written and read going forward, read going
            backward, and its gradient written and read.
        cores: of a machine (2 x 56, as DGX H100 has).
        disk: bytes a second of writing a checkpoint.
        failures: of a GPU a second: 419 in 54 days of 16,384 GPUs (Llama 3, arXiv 2407.21783, section 3.3.4).
        taken_away: of a machine a second, where machines are lent until somebody else wants them: once a day.
        restart: seconds until the processes have started again, data and compiled kernels included.
    """

    count: int = 8
    gpus: int = 8
    flops: float = 989e12
    memory: float = 3.35e12
    link: float = 450e9
    network: float = 8 * 400e9 / 8
    latency: float = 50e-6
    reached: float = 0.35
    movements: int = 5
    cores: int = 112
    disk: float = 1e9
    failures: float = 419 / (54 * DAY * 16384)
    taken_away: float = 1 / DAY
    restart: float = 180.0

    @property
    def processes(self) -> int:
        return self.count * self.gpus


@dataclass(frozen=True)
class Need:
    """What training a network asks for.

    Attributes:
        parameters: that are trained, of all possible edges.
        multiply_adds: of an image going forward, when all possible edges are computed, as on a GPU.
        saved_bytes: that backward needs of an image, in bfloat16.
        norms: batch norms.
    """

    parameters: int
    multiply_adds: int
    saved_bytes: float
    norms: int


def counted(experiment: Experiment) -> Need:
    """What the network of an experiment needs, counted on it."""
    network = build_network(experiment)
    size, channels = experiment.image_size, experiment.in_channels
    parameters = sum(parameter.numel() for parameter in network.parameters())
    norms = sum(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules())
    saved = _saved_bytes(network, torch.randn(2, channels, size, size)) / 2 / 2  # two images; half of float32
    dense = build_network(experiment.but(wiring="complete", prune_rate=0))
    return Need(parameters, profile(dense, size, channels).multiply_adds, saved, norms)


def _saved_bytes(network: nn.Module, images: Tensor) -> int:
    """Bytes of the tensors that backward needs of images, parameters and their copies not counted."""
    parameters = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    seen: dict[int, int] = {}
    kept: list[Tensor] = []  # so that no memory is used twice while it is counted

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        of_images = tensor.dim() == images.dim() and len(tensor) == len(images)
        if of_images and storage.data_ptr() not in parameters:
            seen[storage.data_ptr()] = storage.nbytes()
            kept.append(tensor)
        return tensor

    with torch_form(), torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        network.train()(images)
    return sum(seen.values())


def all_reduce_bytes(size: float, processes: int) -> float:
    """Bytes that each of some processes sends when they sum `size` bytes in a ring (Patarasu, Yuan 2009)."""
    return 2 * (processes - 1) / processes * size


def step(need: Need, batch: int, machines: Machines) -> dict[str, float]:
    """The seconds of a step and of what it consists of.

    `compute` is the roofline's: operations or memory, whichever takes longer. `exchange` sums the gradients, within
    the machines and then between them; DDP hides most of it behind the backward pass. `norms` is the waiting of
    synchronised batch norms, two sums forward and one backward each.
    """
    own = batch / machines.processes
    operations = 3 * 2 * need.multiply_adds * own / machines.flops  # backward takes twice as many as forward
    memory = machines.movements * need.saved_bytes * own / machines.memory
    gradient = 4 * need.parameters
    within = all_reduce_bytes(gradient, machines.gpus) / machines.link
    between = all_reduce_bytes(gradient, machines.count) / machines.network
    compute = max(operations, memory) / machines.reached
    norms = 3 * need.norms * machines.latency
    return {
        "operations": operations,
        "memory": memory,
        "compute": compute,
        "exchange": within + between,
        "norms": norms,
        "seconds": compute + norms + within + between,
        "hidden": compute + norms,
    }


def interval(write: float, mean_time: float) -> float:
    """Seconds between checkpoints that cost least, where one takes `write` seconds (Young 1974)."""
    return math.sqrt(2 * write * mean_time)


def interruptions(rate: float, seconds: float, every: float, restart: float) -> dict[str, float]:
    """What interruptions cost: how many there are, and the seconds lost, each half an interval and a restart.

    Args:
        rate: a second, of the whole job.
        seconds: that the training takes without.
        every: seconds between checkpoints.
        restart: seconds.
    """
    count = rate * seconds
    lost = count * (every / 2 + restart)
    return {"mean_hours": 1 / rate / 3600, "count": count, "lost_seconds": lost, "lost_share": lost / seconds}


def plan(experiment: Experiment, machines: Machines, decoded: float, images_a_gpu: int = 128) -> dict[str, Any]:
    """Everything about one experiment.

    Args:
        experiment: what is trained.
        machines: that it is trained on.
        decoded: images a second that one core reads from a folder.
        images_a_gpu: of a batch.
    """
    need = counted(experiment)
    batch = images_a_gpu * machines.processes
    times = step(need, batch, machines)
    steps_an_epoch = IMAGES // batch + (IMAGES % batch >= 2 * machines.processes)
    rate = batch / times["seconds"]
    readable = decoded * machines.cores * machines.count
    epoch = IMAGES / min(rate, readable)
    checkpoint = 4 * need.parameters * 2  # weights and momentum
    write = checkpoint / machines.disk
    seconds = experiment.num_epochs * (epoch + write)
    failing, lent = machines.failures * machines.processes, machines.taken_away * machines.count
    return {
        "need": asdict(need),
        "batch": batch,
        "learning_rate": experiment.lr * batch / experiment.batch_size,
        "own_batch": experiment.batch_size,
        "own_rate": experiment.lr,
        "epochs": experiment.num_epochs,
        "steps_an_epoch": steps_an_epoch,
        "step": times,
        "gradient_bytes": 4 * need.parameters,
        "sent_bytes": all_reduce_bytes(4 * need.parameters, machines.count),
        "memory_a_gpu": need.saved_bytes * images_a_gpu + 4 * 4 * need.parameters,
        "images_per_second": rate,
        "cores_a_gpu": rate / machines.processes / decoded,
        "bytes_per_second_a_machine": min(rate, readable) / machines.count * ARCHIVE_BYTES / IMAGES,
        "readable_per_second": readable,
        "epoch_seconds": epoch,
        "hours_by_gpus": experiment.num_epochs * IMAGES / rate / 3600,
        "hours": seconds / 3600,
        "checkpoint_bytes": checkpoint,
        "checkpoint_seconds": write,
        "checkpoint_share": write / (epoch + write),
        "best_interval": {"failing": interval(write, 1 / failing), "lent": interval(write, 1 / lent)},
        "failing": interruptions(failing, seconds, epoch, machines.restart),
        "lent": interruptions(lent, seconds, epoch, machines.restart),
    }


def everything(results: Path = ROOT / "benchmarks" / "results") -> dict[str, Any]:
    """What the page says, from the networks, the assumptions, and the measured cost of reading a folder."""
    machines = Machines()
    rows = json.loads((results / "data.json").read_text())["sizes"]
    decoded = next(1e3 / row["processor_milliseconds"]["folder"] for row in rows if row["size"] == 224)
    experiments = {
        name: Experiment.from_settings(app_files.read(app_files.find(name)).settings) for name in EXPERIMENTS
    }
    return {
        "images": IMAGES,
        "image_bytes": ARCHIVE_BYTES / IMAGES,
        "decoded_by_a_core": decoded,
        "cores_of_a_gpu": machines.cores / machines.gpus,
        "machines": {**asdict(machines), "processes": machines.processes},
        "plans": {name: plan(experiment, machines, decoded) for name, experiment in experiments.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    results = everything()
    for name, row in results["plans"].items():
        print(
            f"{name}: {1e3 * row['step']['seconds']:.1f} ms a step of {row['batch']} images, {row['hours']:.1f} hours"
        )
    if args.json:
        args.json.write_text(json.dumps({"measured": conditions(), **results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
