"""Processes that work for another one: how they are started, and what ends them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import forkserver, resource_tracker
from multiprocessing.context import BaseContext

FOR_THE_PARENT = frozenset((signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2))
"""Signals that are the main process's business, also where they are sent to all processes of a job or a terminal."""

_HAS_SERVER = "forkserver" in multiprocessing.get_all_start_methods()


def process_context() -> BaseContext:
    """How processes are started: forked from a clean server, for forking a program that has threads can hang."""
    method = "forkserver" if _HAS_SERVER else "spawn"
    context = multiprocessing.get_context(method)
    if _HAS_SERVER:
        context.set_forkserver_preload(["torch", "torchvision.transforms.v2", "PIL.Image"])
    return context


def start_server() -> None:
    """Start the server that forks processes where it does not run yet, deaf to signals that are for the parent.

    Its processes are deaf as well, until they call `hear_signals`.
    """
    if _HAS_SERVER:
        with deaf_to_signals():
            forkserver.ensure_running()


def hear_signals() -> None:
    """Let this process hear the signals that are for the parent, where it was started to hear none of them."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, FOR_THE_PARENT)


@contextmanager
def deaf_to_signals() -> Iterator[None]:
    """Processes that are started within it, the server that forks them too, hear nothing that is for their parent.

    What comes for this process meanwhile is heard at the end.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, FOR_THE_PARENT)
    try:
        resource_tracker.ensure_running()  # first, for Python lets SIGINT and SIGTERM through again once it has started
        signal.pthread_sigmask(signal.SIG_BLOCK, FOR_THE_PARENT)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def begin_worker(number: int) -> None:
    """What a worker of a loader does first: its parent's requests to stop are not for it, for that still wants batches.

    Args:
        number: of the worker.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, FOR_THE_PARENT)  # before there are threads
    warnings.filterwarnings("ignore", module="PIL")
    threading.Thread(target=_end_if_parent_asks, daemon=True).start()
    end_with_parent()


def end_with_parent() -> None:
    """Let this process end when the one that asked for it has, however that came."""
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    # a worker's parent in the system's eyes is the fork server, which lives as long as its workers do
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _end_if_parent_asks() -> None:
    """SIGTERM of the parent's own, by which it ends a worker that does not; of anybody else it is the parent's."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent.pid:
        pass
    os._exit(1)
