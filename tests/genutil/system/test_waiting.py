from __future__ import annotations

import os

import pytest

from genutil.system.waiting import LOOKS, SETTINGS, sleep_soon


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SETTINGS:
        monkeypatch.setenv(name, "")  # so that it is as before afterwards, whatever the test sets
        monkeypatch.delenv(name)


def test_waiting_threads_sleep_soon() -> None:
    sleep_soon()
    assert os.environ["GOMP_SPINCOUNT"] == str(LOOKS)


@pytest.mark.parametrize(("name", "value"), [("GOMP_SPINCOUNT", "7"), ("OMP_WAIT_POLICY", "active")])
def test_what_the_user_chose_stays(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    sleep_soon()
    assert {key: os.environ[key] for key in SETTINGS if key in os.environ} == {name: value}
