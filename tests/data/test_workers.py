"""Workers and the server that forks them go on when a signal comes to all processes of a run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Empty:
    """Two records of nothing."""

    def __len__(self) -> int:
        return 2

    def fingerprint(self) -> str:
        return "empty"

    def record(self, index: int) -> dict:
        return {}


WRITING = """
from pathlib import Path
from data import record_shards
from tests.data.test_workers import Empty

part = record_shards.Part(Path({folder!r}), Empty(), 2)
assert record_shards.write_parts(part.folder, {{"train": part}}, processes=2, progress=False) == {{"train": 2}}
"""

PROGRAM = """
import signal, time
import torch
from torch.utils.data import DataLoader, TensorDataset
from data.workers import begin_worker, deaf_to_signals, process_context

heard = []
for number in ({number}, signal.SIGUSR2):
    signal.signal(number, lambda number, _: heard.append(number))
data = TensorDataset(torch.arange(60))
loader = DataLoader(data, num_workers=2, multiprocessing_context=process_context(), worker_init_fn=begin_worker)
with deaf_to_signals():
    batches = iter(loader)
seen = [next(batches)[0].item()]
print("reading", flush=True)
while not heard:
    time.sleep(0.01)
seen += [batch.item() for batch, in batches]
assert seen == list(range(60)), seen
print("heard", *heard)
"""


def assert_all_is_read(program: str, number: int) -> None:
    root = Path(__file__).resolve().parents[2]
    run = subprocess.Popen(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(root)},
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert run.stdout is not None
    begun = run.stdout.readline()
    if begun:
        os.killpg(run.pid, number)
    out, err = run.communicate(timeout=300)
    assert begun == "reading\n", err
    assert run.returncode == 0, err
    assert out.split() == ["heard", str(int(number))]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_a_signal_to_all_processes_ends_no_worker_and_not_their_server(number: int) -> None:
    assert_all_is_read(PROGRAM.format(number=int(number)), number)


def test_nor_does_it_where_records_were_written_before(tmp_path: Path) -> None:
    program = WRITING.format(folder=str(tmp_path / "records")) + PROGRAM.format(number=int(signal.SIGTERM))
    assert_all_is_read(program, signal.SIGTERM)
