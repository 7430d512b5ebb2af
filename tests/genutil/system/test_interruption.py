from __future__ import annotations

import os
import pickle
import signal
import threading

import pytest

from genutil.system.interruption import Interrupted, StopRequest


def test_a_first_signal_asks_and_a_second_one_interrupts() -> None:
    calls: list[str] = []
    with StopRequest(first=lambda: calls.append("first"), second=lambda: calls.append("second")) as stop:
        assert not stop.requested
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.requested
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert calls == ["first", "second"]


def test_two_kinds_of_signal_are_one_request() -> None:
    with StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.requested


def test_signals_but_ctrl_c_may_come_often() -> None:
    with StopRequest(second=lambda: pytest.fail("it was stopped at once")) as stop:
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR1, signal.SIGINT):
            os.kill(os.getpid(), number)
        assert stop.number == signal.SIGTERM


def test_a_process_that_a_parent_started_is_stopped_at_once_by_it_alone() -> None:
    with StopRequest(second=None) as stop:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.number == signal.SIGINT


def test_sighup_stays_ignored_under_nohup() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopRequest() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop.requested
    finally:
        signal.signal(signal.SIGHUP, before)


def test_an_interrupted_run_has_the_status_of_its_signal_in_other_processes_too() -> None:
    stop = pickle.loads(pickle.dumps(Interrupted(signal.SIGHUP)))
    assert (stop.status, Interrupted().status) == (129, 143)


def test_the_handlers_of_before_come_back() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with StopRequest():
        assert signal.getsignal(signal.SIGINT) != before[0]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_outside_the_main_thread_nothing_is_touched() -> None:
    before = signal.getsignal(signal.SIGINT)
    seen = []

    def work() -> None:
        with StopRequest() as stop:
            seen.extend([stop.requested, signal.getsignal(signal.SIGINT)])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [False, before]


def test_a_forked_data_worker_survives_ctrl_c_and_ends_by_sigterm() -> None:
    with StopRequest():
        child = os.fork()
        if child == 0:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGTERM)
            os._exit(1)
        _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)
    assert os.WTERMSIG(status) == signal.SIGTERM
