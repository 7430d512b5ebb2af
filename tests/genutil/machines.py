"""Two machines: network namespaces that a virtual cable joins, each with an agent of torchrun. Needs root and ip."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.genutil.runs import ROOT, environment

PORT = 29400
REPLACEABLE = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
"""Lets the agents tell each other anew where to meet, without which an agent that joins later waits in vain."""


@dataclass(frozen=True)
class Machine:
    """A network namespace of its own.

    Attributes:
        name: of the namespace.
        address: in the network that it shares with the other one.
        cable: its end of the cable, as its interface is called.
    """

    name: str
    address: str
    cable: str

    def start(self, words: Sequence[str], log: Path, first: str) -> subprocess.Popen:
        """Start an agent that starts one process of a job of two machines; the first one's address says where to meet.

        Args:
            words: of the job, a Python script first.
            log: file for what it prints.
            first: the address of the machine where the agents meet.
        """
        agent = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"]
        meeting = ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"{first}:{PORT}", "--rdzv-id", "job"]
        patience = "join_timeout=300,last_call_timeout=2,keep_alive_interval=2,keep_alive_max_attempt=8"
        host = f"is_host={str(self.address == first).lower()}"
        place = ["--local-addr", self.address, "--max-restarts", "3", "--monitor-interval", "0.2"]
        with log.open("a") as file:
            return subprocess.Popen(
                [
                    "ip",
                    "netns",
                    "exec",
                    self.name,
                    *agent,
                    *meeting,
                    "--rdzv-conf",
                    f"{patience},{host}",
                    *place,
                    *words,
                ],
                stdout=file,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env={**environment(), "GLOO_SOCKET_IFNAME": self.cable, **REPLACEABLE},
            )

    def kill(self) -> None:
        """End everything that runs on it at once, as a machine that loses its power."""
        for pid in ip("netns", "pids", self.name).split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)


def ip(*words: str) -> str:
    """What the command ip prints. Raises RuntimeError with its complaint."""
    done = subprocess.run(["ip", *words], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr.strip())
    return done.stdout


@contextmanager
def two_machines() -> Iterator[tuple[Machine, Machine]]:
    """Two machines in a network of their own. Raises RuntimeError, with the reason, where they cannot be made."""
    if shutil.which("ip") is None:
        raise RuntimeError("there is no command ip (iproute2)")
    number = os.getpid() % 100_000
    machines = tuple(
        Machine(f"machine-{number}-{side}", f"10.213.77.{side}", f"nw{number}{letter}")
        for side, letter in ((1, "a"), (2, "b"))
    )
    try:
        for machine in machines:
            ip("netns", "add", machine.name)
        ip("link", "add", machines[0].cable, "type", "veth", "peer", "name", machines[1].cable)
        for machine in machines:
            ip("link", "set", machine.cable, "netns", machine.name)
            ip("-n", machine.name, "address", "add", f"{machine.address}/24", "dev", machine.cable)
            ip("-n", machine.name, "link", "set", machine.cable, "up")
            ip("-n", machine.name, "link", "set", "lo", "up")
        yield machines[0], machines[1]
    finally:
        for machine in machines:
            with suppress(RuntimeError):
                machine.kill()
            with suppress(RuntimeError):
                ip("netns", "delete", machine.name)


def wait_until(true: Callable[[], bool], agents: Sequence[subprocess.Popen], seconds: float = 300) -> None:
    """Until a function returns true. Raises AssertionError where it does not in time, or an agent ends before."""
    until = time.monotonic() + seconds
    while not true():
        assert all(agent.poll() is None for agent in agents), "an agent ended"
        assert time.monotonic() < until, "nothing happened"
        time.sleep(0.05)
