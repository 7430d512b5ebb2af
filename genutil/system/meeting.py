"""How processes that torchrun has started find each other, and not those that were there before them.

Its agents keep one store for all starts of a job, and in it the addresses that processes have left there. Since torch
does not tell one start from the next (2.14), a process that is started again may try to reach one that is gone.
"""

from __future__ import annotations

import os
import time
import uuid

import torch.distributed as dist

LOOK_EVERY = 0.02
"""Seconds between looks at the store."""
PATIENCE = 600.0
"""Seconds that the first process waits for the others, which may still be loading torch."""


def meet(backend: str) -> None:
    """Make the group of processes under a name of this start, where agents of torchrun keep the store; else do nothing.

    Args:
        backend: of the group, as torch calls it.

    Raises:
        dist.DistError: the others do not come, or the store is gone.
    """
    if dist.is_initialized() or os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != str(True):
        return
    store, rank, size = next(iter(dist.rendezvous("env://")))
    name = agree_on_name(store, rank, size)
    dist.init_process_group(backend, store=dist.PrefixStore(name, store), rank=rank, world_size=size)


def agree_on_name(store: dist.Store, rank: int, size: int, patience: float = PATIENCE) -> str:
    """A name that all processes of this start have, and none of another start.

    The first process chooses it, and answers every other one until that has said that it heard. What processes of an
    earlier start have left in the store is answered, too, and nobody confirms it.

    Args:
        store: that all have, perhaps since an earlier start.
        rank, size: of this process, and of all.
        patience: seconds that the first process waits for the others.

    Raises:
        dist.DistError: one does not come.
    """
    own = uuid.uuid4().hex
    if rank:
        store.set(f"start/asks/{rank}", own)
        name = store.get(f"start/answer/{own}").decode()
        store.set(f"start/heard/{own}/{name}", "")
        return name
    waiting, end = set(range(1, size)), time.monotonic() + patience
    answered: dict[int, str] = {}
    while waiting:
        if time.monotonic() > end:
            missing = ", ".join(map(str, sorted(waiting)))
            raise dist.DistStoreError(f"of {size} processes those of rank {missing} have not come")
        for other in sorted(waiting):
            if not store.check([f"start/asks/{other}"]):
                continue
            asking = store.get(f"start/asks/{other}").decode()
            if answered.get(other) != asking:
                store.set(f"start/answer/{asking}", own)
                answered[other] = asking
            if store.check([f"start/heard/{asking}/{own}"]):
                waiting.discard(other)
        time.sleep(LOOK_EVERY if waiting else 0)
    return own
