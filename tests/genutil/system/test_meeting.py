"""Processes of one start agree on a name, whatever those of an earlier start have left in the store."""

from __future__ import annotations

import threading

import pytest
import torch.distributed as dist

from genutil.system.meeting import agree_on_name, meet


@pytest.fixture
def store() -> dist.TCPStore:
    return dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)


def start(store: dist.TCPStore, size: int, absent: set[int] = frozenset()) -> dict[int, str]:
    """The names that the processes of a start, here threads, have agreed on."""
    found: dict[int, str] = {}

    def process(rank: int) -> None:
        own = dist.TCPStore("127.0.0.1", store.port, is_master=False)
        found[rank] = agree_on_name(own, rank, size)

    threads = [threading.Thread(target=process, args=(rank,)) for rank in reversed(range(size)) if rank not in absent]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_every_start_has_a_name_of_its_own(store: dist.TCPStore) -> None:
    names = [start(store, 4) for _ in range(3)]
    assert all(len(set(found.values())) == 1 and len(found) == 4 for found in names)
    assert len({found[0] for found in names}) == 3


def test_a_process_that_is_gone_is_not_taken_for_the_one_in_its_place(store: dist.TCPStore) -> None:
    start(store, 2)
    store.set("start/asks/1", "one that has asked, and died")
    assert len(set(start(store, 2).values())) == 1


def test_one_that_does_not_come_is_named(store: dist.TCPStore) -> None:
    start(store, 3)
    with pytest.raises(dist.DistStoreError, match="of 3 processes those of rank 1, 2 have not come"):
        agree_on_name(store, 0, 3, patience=0.2)


def test_alone_and_outside_of_torchrun_nothing_is_made(monkeypatch: pytest.MonkeyPatch, store: dist.TCPStore) -> None:
    assert agree_on_name(store, 0, 1)
    monkeypatch.delenv("TORCHELASTIC_USE_AGENT_STORE", raising=False)
    meet("gloo")
    assert not dist.is_initialized()
