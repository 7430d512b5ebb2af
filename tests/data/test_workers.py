"""Workers and the server that forks them go on when a signal comes to all processes of a run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_a_signal_to_all_processes_ends_no_worker_and_not_their_server(number: int) -> None:
    root = Path(__file__).resolve().parents[2]
    run = subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(number=int(number))],
        env={**os.environ, "PYTHONPATH": str(root)},
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert run.stdout is not None
    assert run.stdout.readline() == "reading\n"
    os.killpg(run.pid, number)
    out, err = run.communicate(timeout=300)
    assert run.returncode == 0, err
    assert out.split() == ["heard", str(int(number))]
