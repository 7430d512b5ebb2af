"""Devices and processes: which are used, how they are started and stopped, and what they tell each other."""

from __future__ import annotations

import gc
import logging
import multiprocessing
import os
import pickle
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

from genutil.config import Experiment
from genutil.errors import UserError
from genutil.system.files import write_text
from genutil.system.interruption import STOP_SIGNALS, Interrupted, StopRequest, announce
from genutil.system.meeting import meet
from genutil.system.one_process import OneProcess, Runtime

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from lightning_fabric.strategies import DataParallelStrategy

logging.getLogger("lightning_fabric").setLevel(logging.WARNING)

logging.getLogger("torch.multiprocessing").setLevel(logging.ERROR)  # it tells of each process that it ends

LOST = ("closed by peer", "reset by peer", "Broken pipe", "Connection refused")
"""What gloo says where a process that it waits for is gone."""

SECONDS_TO_BE_ENDED = 10

OUTCOME = "outcome"
MISTAKE = "mistake-of-"
PRECISIONS: dict[str, Literal["32-true", "bf16-mixed", "16-mixed"]] = {
    "32": "32-true",
    "bf16": "bf16-mixed",
    "16": "16-mixed",
    "64": "32-true",  # Fabric's 64-true rounds logits to 32 bits; network and images are of 64 bits already
}


def make_runtime(experiment: Experiment) -> Runtime:
    """As `make_fabric`, but no Fabric for a profile, or an evaluation in one process on the CPU in full precision.

    Raises:
        UserError: as `make_fabric`.
    """
    if experiment.profile:
        return OneProcess()
    if experiment.decode == "gpu" and not _choose_gpus(experiment):
        raise UserError("decode: gpu needs a GPU, and this run is on the CPU: leave it out.")
    started_outside = "LOCAL_RANK" in os.environ or "SLURM_NTASKS" in os.environ
    alone = experiment.devices == experiment.num_nodes == 1 and not started_outside
    if alone and not experiment.trains and experiment.precision == "32" and not _choose_gpus(experiment):
        return OneProcess()
    return make_fabric(experiment)


def make_fabric(experiment: Experiment) -> Fabric:
    """The devices, processes and precision of an experiment.

    Without `gpus` all GPUs are used, else the CPU; `devices` above 1 asks for that many processes on the CPU, and an
    empty `gpus` for the CPU. Under torchrun its own processes are used, whatever the numbers of the experiment.

    Raises:
        UserError: a GPU that is not there, or a way of working that these devices do not have.
    """
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.environments import TorchElasticEnvironment

    from genutil.system.strategies import make_strategy

    gpus = _choose_gpus(experiment)
    if experiment.num_nodes > 1 and not _is_placed():
        raise UserError(
            f"num_nodes: {experiment.num_nodes} needs something that starts the run on each machine: torchrun, or srun "
            "of SLURM. By hand, set MASTER_ADDR, MASTER_PORT and NODE_RANK on each."
        )
    if experiment.precision == "16" and not gpus:
        raise UserError("precision 16 needs a GPU; the CPU has bf16 and 32.")
    local, nodes = len(gpus) or experiment.devices, experiment.num_nodes
    if TorchElasticEnvironment.detect():
        local = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = int(os.environ["WORLD_SIZE"]) // local
        if 0 < len(gpus) < local:
            raise UserError(f"torchrun started {local} processes on this machine, for {len(gpus)} GPUs.")
        gpus = gpus[:local]
    return Fabric(
        accelerator="cuda" if gpus else "cpu",
        devices=gpus or local,
        num_nodes=nodes,
        strategy=make_strategy(experiment, on_gpus=bool(gpus), processes=local * nodes),
        precision=PRECISIONS[experiment.precision],
    )


def _is_placed() -> bool:
    """Whether this process knows which machine of several it is on."""
    by_hand = {"MASTER_ADDR", "MASTER_PORT", "NODE_RANK"} <= os.environ.keys()
    return by_hand or any(name in os.environ for name in ("LOCAL_RANK", "GROUP_RANK", "SLURM_NTASKS"))


def _choose_gpus(experiment: Experiment) -> list[int]:
    present = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if experiment.gpus is None:
        return list(range(present)) if experiment.devices == 1 else []
    absent = [str(gpu) for gpu in experiment.gpus if gpu >= present]
    if absent:
        there = f"there are {present}, counted from 0" if present else "torch finds none on this machine"
        raise UserError(f"GPU {', '.join(absent)} is not there: {there}.")
    return list(experiment.gpus)


def starts_processes(fabric: Runtime) -> bool:
    """Whether `launch` will run its function in processes of its own."""
    if isinstance(fabric, OneProcess):
        return False
    from genutil.system.strategies import SpawnedDDPStrategy

    return isinstance(fabric.strategy, SpawnedDDPStrategy)


def launch(fabric: Runtime, function: Callable[..., Any], *arguments: Any) -> Any:
    """Run function(fabric, *arguments) in every process of the run and return what it returns in the first.

    Processes are started afresh (spawn), so that this works from a script, a test or another program alike; the
    function and its arguments must be picklable then. Where torchrun or SLURM started them, or one is enough, it runs
    in this one. When one process fails or is killed the others are ended. A signal that asks to stop is passed on to
    all of them.

    Raises:
        UserError: as raised in any of the processes.
        Interrupted: as raised in the processes.
    """
    if isinstance(fabric, OneProcess):
        return function(fabric, *arguments)
    if not starts_processes(fabric):
        grouped = _has_group()  # by the program that this is a part of
        try:
            meet("nccl" if fabric.device.type == "cuda" else "gloo")
            fabric.launch()
        except ValueError as error:  # what torchrun or SLURM started does not match what was asked for
            raise UserError(str(error)) from error
        except (dist.DistNetworkError, dist.DistStoreError) as error:
            where = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
            raise UserError(f"The processes cannot meet at {where}: {str(error).splitlines()[0]}") from error
        if grouped or not _has_group():
            return function(fabric, *arguments)
        outcome = _outcome(function, fabric, *arguments)
        end_group()
        return _returned(outcome)
    return _start(fabric, function, *arguments)


def _start(fabric: Fabric, function: Callable[..., Any], *arguments: Any) -> Any:
    """See `launch`: in processes that are started for it."""
    port = os.environ.get("MASTER_PORT")
    if port is not None:
        _require_free(port)
    with (
        tempfile.TemporaryDirectory() as folder,
        StopRequest(first=_pass_on_request, second=_end_children) as stop,
    ):
        try:
            fabric.launch(partial(_in_process, function=function, folder=Path(folder), arguments=arguments))
        except (ProcessRaisedException, ProcessExitedException) as error:
            for mistake in Path(folder).glob(f"{MISTAKE}*"):
                raise UserError(mistake.read_text()) from None
            if stop.requested:
                raise Interrupted(stop.number) from None
            if isinstance(error, ProcessExitedException) and error.signal_name:
                raise UserError(_killed(error.error_index, error.signal_name)) from None
            raise
        finally:
            if port is None:
                os.environ.pop("MASTER_PORT", None)
        outcome = pickle.loads((Path(folder) / OUTCOME).read_bytes())
    if isinstance(outcome, Interrupted) and stop.requested:
        raise Interrupted(stop.number)
    return _returned(outcome)


def _killed(process: int, signal_name: str) -> str:
    memory = ", as the system does where memory runs out" if signal_name == "SIGKILL" else ""
    return (
        f"Process {process + 1} of the run was ended from outside by {signal_name}{memory}; the others were stopped. "
        "A training goes on from its last checkpoint with --resume."
    )


def _require_free(port: str) -> None:
    """See to it that processes can meet at a port.

    Raises:
        UserError: it is no port, or another program has it.
    """
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as test:
            test.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            test.bind(("", int(port)))
    except (ValueError, OverflowError):
        raise UserError(f"MASTER_PORT is {port!r}, and a port is a number up to 65535.") from None
    except OSError as error:
        raise UserError(
            f"MASTER_PORT is {port}, where processes cannot meet ({error.strerror}): set another one, or none."
        ) from error


def listen(announcer: Callable[[], None] = lambda: None) -> StopRequest:
    """A request to stop a process of a run.

    One that a parent started hears what is sent to the whole group, and SIGUSR2 by which its parent passes requests on;
    its parent ends it where it is to end at once.

    Args:
        announcer: called at the first signal.
    """
    if multiprocessing.parent_process() is None:
        return StopRequest(first=announcer)
    return StopRequest((*STOP_SIGNALS, signal.SIGUSR2), first=announcer, second=None)


def _in_process(fabric: Fabric, function: Callable[..., Any], folder: Path, arguments: Sequence[Any]) -> None:
    """Leave what the function returns, or the user's mistake, in files: a pipe to the parent would be too narrow."""
    try:
        outcome = _outcome(function, fabric, *arguments)
    except RuntimeError as error:
        if any(sign in str(error) for sign in LOST):
            time.sleep(SECONDS_TO_BE_ENDED)  # the parent tells of the process that is gone, and ends this one
        raise
    if isinstance(outcome, UserError):
        write_text(folder / f"{MISTAKE}{fabric.local_rank}", str(outcome))
    end_group()
    if isinstance(outcome, UserError):
        sys.exit(2)  # the parent ends the others
    if fabric.local_rank == 0:
        (folder / OUTCOME).write_bytes(pickle.dumps(outcome))


def _outcome(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function returns, or the UserError or Interrupted that it raises.

    The exception is made anew: the traceback of the first one, or of its cause, holds what the process group is used
    by, and the group would outlive `end_group`.
    """
    try:
        return function(*arguments)
    except UserError as mistake:
        return UserError(str(mistake))
    except Interrupted as stop:
        return Interrupted(stop.number)


def _returned(outcome: Any) -> Any:
    """An outcome as its function would have returned or raised it."""
    if isinstance(outcome, UserError | Interrupted):
        raise outcome
    return outcome


def _has_group() -> bool:
    return dist.is_available() and dist.is_initialized()


def end_group() -> None:
    """End the group of processes, if there is one, and its threads.

    A thread of gloo may still hold the last tensor that was sent. If it frees it while Python ends, it finds no
    interpreter to do so, and the process is aborted ("terminate called without an active exception").
    """
    if _has_group():
        gc.collect()  # the threads end with the last module that uses the group, be it a part of a cycle
        dist.destroy_process_group()


def _pass_on_request() -> None:
    announce()
    for child in multiprocessing.active_children():
        if child.pid is not None:
            os.kill(child.pid, signal.SIGUSR2)


def _end_children() -> None:
    for child in multiprocessing.active_children():
        child.kill()


@contextmanager
def first_here(fabric: Runtime) -> Iterator[None]:
    """One process of each machine goes first, so that only it fetches what is absent; the others then find it."""
    if fabric.local_rank > 0:
        fabric.barrier()
    yield
    if fabric.local_rank == 0:
        fabric.barrier()


def say(fabric: Runtime, text: str) -> None:
    """Print in the first process of all machines."""
    if fabric.global_rank == 0:
        print(text, flush=True)


def data_parallel(fabric: Runtime) -> DataParallelStrategy | None:
    """What spreads batches over GPUs in one process, where a run does so."""
    if isinstance(fabric, OneProcess):
        return None
    from lightning_fabric.strategies import DataParallelStrategy

    return fabric.strategy if isinstance(fabric.strategy, DataParallelStrategy) else None


def is_full_precision(fabric: Runtime) -> bool:
    """Whether networks are run in 32 bits throughout."""
    return isinstance(fabric, OneProcess) or fabric.strategy.precision.precision == PRECISIONS["32"]


def over_devices(fabric: Runtime, network: nn.Module) -> nn.Module:
    """The network as it is to be called outside training: under dp its batches are spread over the GPUs."""
    spread = data_parallel(fabric)
    return network if spread is None else nn.DataParallel(network, spread.parallel_devices)


def sum_over_processes(fabric: Runtime, values: Tensor) -> Tensor:
    """The sum of a tensor over all processes, in each of them."""
    if isinstance(fabric, OneProcess) or fabric.world_size == 1:
        return values
    total = fabric.all_reduce(values, reduce_op="sum")
    assert isinstance(total, Tensor)
    return total


def agree(fabric: Runtime, wish: bool) -> bool:
    """Whether any process wishes so. All must ask at the same point."""
    if fabric.world_size == 1:
        return wish
    return bool(sum_over_processes(fabric, torch.tensor(float(wish), device=fabric.device)) > 0)


def highest(fabric: Runtime, number: int) -> int:
    """The highest of the numbers of all processes. All must ask at the same point."""
    if isinstance(fabric, OneProcess) or fabric.world_size == 1:
        return number
    found = fabric.all_reduce(torch.tensor(number, device=fabric.device), reduce_op="max")
    assert isinstance(found, Tensor)
    return int(found)


@torch.no_grad()
def share_buffers(fabric: Fabric, network: nn.Module) -> None:
    """Give every process the first one's running statistics, so that all evaluate the network that is saved."""
    if fabric.world_size > 1:
        for buffer in network.buffers():
            if buffer.is_floating_point():
                dist.broadcast(buffer, 0)
