from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Small networks are faster on one thread, and equal to the last bit."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Makes a file system of its own of so many KiB, in memory; mounting one needs the rights of root."""
    mounted = []

    def mount(kibibytes: int) -> Path:
        place = tmp_path / f"disk-{len(mounted)}"
        place.mkdir()
        words = ["mount", "-t", "tmpfs", "-o", f"size={kibibytes}k", "none", str(place)]
        try:
            done = subprocess.run(words, capture_output=True, text=True)
        except OSError as error:
            pytest.skip(f"needs mount(8): {error}")
        if done.returncode:
            pytest.skip(f"needs the right to mount a file system: {done.stderr.strip()}")
        mounted.append(place)
        return place

    yield mount
    for place in mounted:
        subprocess.run(["umount", "--lazy", str(place)], check=True)
