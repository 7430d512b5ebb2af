from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric

from genutil.config import Experiment
from genutil.errors import UserError
from genutil.saved import checkpoints, loading
from genutil.saved.source import open_source
from genutil.system.distributed import (
    agree,
    highest,
    launch,
    make_fabric,
    make_runtime,
    starts_processes,
    sum_over_processes,
)
from genutil.system.one_process import OneProcess, Runtime
from tests.genutil import processes

no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="is about machines without a GPU")
needs_list_of_threads = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs a list of threads")


@no_gpu
@pytest.mark.parametrize("gpus", [[0], [1, 3]])
def test_a_gpu_that_is_not_there_is_told(gpus: list[int]) -> None:
    with pytest.raises(UserError, match=rf"GPU {', '.join(map(str, gpus))} is not there: torch finds none"):
        make_fabric(Experiment(gpus=gpus))


def test_of_some_gpus_the_absent_ones_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(UserError, match="GPU 2, 7 is not there: there are 2, counted from 0"):
        make_fabric(Experiment(gpus=[1, 2, 7]))


@no_gpu
def test_without_gpus_the_cpu_is_used() -> None:
    for experiment in (Experiment(), Experiment(gpus=[]), Experiment(strategy="dp")):
        fabric = make_fabric(experiment)
        assert (fabric.device.type, fabric.world_size, starts_processes(fabric)) == ("cpu", 1, False)


def test_processes_on_the_cpu_are_started() -> None:
    fabric = make_fabric(Experiment(devices=2))
    assert fabric.device.type == "cpu"
    assert starts_processes(fabric)


def test_dataparallel_on_several_cpu_processes_is_refused() -> None:
    with pytest.raises(UserError, match="on the CPU use ddp"):
        make_fabric(Experiment(devices=2, strategy="dp"))


def test_16_bits_on_the_cpu_are_refused() -> None:
    with pytest.raises(UserError, match="precision 16 needs a GPU"):
        make_fabric(Experiment(gpus=[], precision="16"))


@no_gpu
@pytest.mark.parametrize(
    ("settings", "alone"),
    [
        ({"profile": True}, True),
        ({"profile": True, "devices": 2, "precision": "bf16"}, True),
        ({"evaluate": True}, True),
        ({"evaluate": True, "gpus": []}, True),
        ({"evaluate": True, "devices": 2}, False),
        ({"evaluate": True, "precision": "bf16"}, False),
        ({}, False),
    ],
)
def test_fabric_is_made_where_it_is_needed(settings: dict, alone: bool) -> None:
    assert isinstance(make_runtime(Experiment(resume="last.pt", **settings)), OneProcess) == alone


@no_gpu
@pytest.mark.parametrize("settings", [{}, {"evaluate": True, "resume": "last.pt"}, {"devices": 2}])
def test_decoding_on_a_gpu_needs_one(settings: dict) -> None:
    with pytest.raises(UserError, match="decode: gpu needs a GPU"):
        make_runtime(Experiment(decode="gpu", **settings))


@pytest.mark.parametrize("variable", ["LOCAL_RANK", "SLURM_NTASKS"])
def test_fabric_is_made_for_processes_that_were_started_outside(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "1")
    monkeypatch.setattr("genutil.system.distributed.make_fabric", lambda _: "fabric")
    assert make_runtime(Experiment(resume="last.pt", evaluate=True, gpus=[])) == "fabric"


@no_gpu
def test_an_evaluation_on_a_gpu_that_is_not_there_is_refused() -> None:
    with pytest.raises(UserError, match="GPU 0 is not there"):
        make_runtime(Experiment(resume="last.pt", evaluate=True, gpus=[0]))


@pytest.mark.parametrize("fabric", [Fabric(accelerator="cpu", devices=1), OneProcess()])
def test_one_process_sums_and_agrees_alone(fabric: Runtime) -> None:
    assert not starts_processes(fabric)
    assert launch(fabric, lambda given, number: (given is fabric, number), 7) == (True, 7)
    assert sum_over_processes(fabric, torch.tensor([1.0, 2.0])).tolist() == [1, 2]
    assert agree(fabric, True)
    assert not agree(fabric, False)


@pytest.mark.parametrize("fabric", [Fabric(accelerator="cpu", devices=1), OneProcess()])
def test_one_process_has_the_highest_number(fabric: Runtime) -> None:
    assert highest(fabric, 15) == 15


def test_several_machines_need_a_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"^num_nodes: 2 needs something that starts the run on each machine: torchrun"):
        make_fabric(Experiment(num_nodes=2, gpus=[]))
    for name, value in {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1", "NODE_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    assert make_fabric(Experiment(num_nodes=2, gpus=[])).world_size == 2


def test_a_port_that_is_in_use_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as other:
        other.bind(("", 0))
        other.listen()
        monkeypatch.setenv("MASTER_PORT", str(other.getsockname()[1]))
        with pytest.raises(UserError, match=r"^MASTER_PORT is \d+, where .* meet \(Address already in use"):
            launch(make_fabric(Experiment(devices=2)), processes.fail_in_the_second)
    assert "MASTER_PORT" in os.environ


@pytest.mark.parametrize("port", ["", "a", "-1", "70000"])
def test_a_port_that_is_none_is_told(monkeypatch: pytest.MonkeyPatch, port: str) -> None:
    monkeypatch.setenv("MASTER_PORT", port)
    with pytest.raises(UserError, match="a port is a number up to 65535"):
        launch(make_fabric(Experiment(devices=2)), processes.fail_in_the_second)


def test_a_process_that_is_killed_is_told_and_ends_the_others() -> None:
    started = time.monotonic()
    with pytest.raises(UserError, match=r"^Process 2 of the run was ended from outside by SIGKILL, as the system does"):
        launch(make_fabric(Experiment(devices=2)), processes.die_in_the_second)
    assert time.monotonic() - started < 200


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """What two processes on the CPU found, and their checkpoints' folder."""
    folder = tmp_path_factory.mktemp("two")
    return {**launch(make_fabric(Experiment(devices=2)), processes.both, folder), "folder": folder}


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """The same training in one process with the same global batches."""
    return processes.train_small(Fabric(accelerator="cpu", devices=1), tmp_path_factory.mktemp("one"))


def test_two_processes_train_as_one(two: dict, one: dict) -> None:
    for name, expected in one["network"].items():
        torch.testing.assert_close(two["training"]["network"][name], expected, rtol=1e-9, atol=1e-11, msg=name)
    assert [record["step"] for record in one["history"]] == [2, 4, 5, 6, 8, 10, 10, 12, 14, 15]
    for mine, theirs in zip(one["history"], two["training"]["history"], strict=True):
        assert mine.keys() == theirs.keys()
        for key in mine.keys() - {"seconds", "images_per_second"}:
            loose = key.endswith(("loss", "top1"))
            assert mine[key] == (pytest.approx(theirs[key], rel=1e-9) if loose else theirs[key])


def test_two_processes_evaluate_as_one(two: dict, one: dict) -> None:
    for name in ("top1", "top5", "images"):
        assert getattr(one["again"], name) == getattr(two["training"]["again"], name)
    assert one["again"].loss == pytest.approx(two["training"]["again"].loss, rel=1e-9)


def test_a_run_of_two_processes_resumes_in_one(two: dict, one: dict) -> None:
    path = two["folder"] / "sync" / "last.pt"
    assert checkpoints.read(path)["progress"]["epoch"] == 3
    resumed = processes.train_small(Fabric(accelerator="cpu", devices=1), None, resume=path)
    for name, expected in two["training"]["network"].items():
        assert torch.equal(resumed["network"][name], expected)


def test_without_synchronisation_all_evaluate_the_network_that_is_saved(two: dict, one: dict) -> None:
    network = processes.SmallNet(wiring="random", dropout=0).double()
    loading.load_weights(open_source(two["folder"] / "plain" / "last.pt"), network)
    data = processes.make_data(70, 15, dtype=torch.float64)
    scores = processes.evaluate(Fabric(accelerator="cpu", devices=1), network, data.test.epoch(0))
    assert scores.loss == pytest.approx(two["plain"]["again"].loss, rel=1e-9)
    assert two["plain"]["history"][-1]["train_loss"] != pytest.approx(one["history"][-1]["train_loss"], rel=1e-6)


def test_parts_of_a_batch_in_two_processes_have_the_gradient_of_the_whole(two: dict) -> None:
    whole = processes.in_parts(Fabric(accelerator="cpu", devices=1), 1)
    for name, gradient in whole.items():
        torch.testing.assert_close(two["parts"][name], gradient, rtol=0, atol=1e-13)


def test_images_that_a_process_leaves_out_do_not_change_the_weight_of_the_others(two: dict) -> None:
    assert two["shares"] == (8, 3)


def test_other_edges_in_another_process_are_told(two: dict) -> None:
    assert two["drift"].startswith("The processes no longer have the same edges after epoch 5 (in layers.1): ")


def test_where_one_process_goes_on_all_do(two: dict) -> None:
    assert two["start"] == ["last.pt", None]


def test_a_mistake_in_one_process_ends_the_others_and_is_told_as_such() -> None:
    started = time.monotonic()
    with pytest.raises(UserError, match=r"^cat/7\.png cannot be read\.$"):
        launch(make_fabric(Experiment(devices=2)), processes.fail_in_the_second)
    assert time.monotonic() - started < 200


def test_what_one_process_returns_is_returned() -> None:
    assert launch(Fabric(accelerator="cpu", devices=1), lambda fabric, x: (fabric.world_size, x), "x") == (1, "x")


@needs_list_of_threads
def test_no_thread_of_a_group_outlives_it(tmp_path: Path) -> None:
    fabric = make_fabric(Experiment(devices=2))
    before, after, initialized = launch(fabric, processes.threads_before_and_after_the_group_ends, tmp_path)
    assert any("gloo" in name for name in before)
    assert not [name for name in after if "gloo" in name]
    assert not initialized


@needs_list_of_threads
def test_no_thread_of_a_group_outlives_it_where_a_process_ends_by_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^cat/7\.png cannot be read\.$"):
        launch(make_fabric(Experiment(devices=2)), processes.train_and_fail, tmp_path)
    threads = {path.name: path.read_text() for path in tmp_path.iterdir()}
    at_end = [names for moment, names in threads.items() if moment.startswith("at-end") and names]
    assert at_end  # of one process, where its parent was quick to kill the other
    assert "gloo" in threads["before-0"]
    assert not any("gloo" in names for names in at_end)
