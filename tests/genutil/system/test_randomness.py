from __future__ import annotations

import os

import pytest
import torch

from genutil.errors import UserError
from genutil.system.randomness import CUBLAS_WORKSPACE, chosen_algorithms, reseed


def draw(*place) -> list[float]:
    reseed(*place)
    return torch.rand(4).tolist()


def test_the_same_place_draws_the_same_and_another_another() -> None:
    assert draw(1, "step", 2, 0) == draw(1, "step", 2, 0)
    places = [
        (1,),
        (1, 0),
        (1, "step", 2, 0),
        (1, "step", 2, 1),
        (1, "step", 0, 2),
        (2, "step", 2, 0),
        (1, "other", 2, 0),
    ]
    assert len({tuple(draw(*place)) for place in places}) == len(places)


def test_seeds_are_the_same_on_every_machine() -> None:
    reseed(0, "step", 1, 0)
    assert torch.initial_seed() == 3727733132220377383


def flags() -> tuple[bool, bool, bool, str | None]:
    return (
        torch.backends.cudnn.benchmark,
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        os.environ.get(CUBLAS_WORKSPACE),
    )


@pytest.mark.parametrize("benchmark", [False, True])
@pytest.mark.parametrize("fails", [False, True])
def test_algorithms_are_chosen_within_and_put_back_afterwards(
    monkeypatch: pytest.MonkeyPatch, benchmark: bool, fails: bool
) -> None:
    monkeypatch.delenv(CUBLAS_WORKSPACE, raising=False)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", benchmark)
    before = flags()
    for deterministic, within in ((False, (True, False, False, None)), (True, (False, True, False, ":4096:8"))):
        try:
            with chosen_algorithms(deterministic):
                assert flags() == within
                if fails:
                    raise KeyboardInterrupt
        except KeyboardInterrupt:
            assert fails
        assert flags() == before


def test_what_the_program_around_a_run_chose_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CUBLAS_WORKSPACE, ":16:8")
    try:
        torch.use_deterministic_algorithms(True, warn_only=True)
        with chosen_algorithms(True):
            assert flags()[1:] == (True, False, ":16:8")
        assert flags()[1:] == (True, True, ":16:8")
    finally:
        torch.use_deterministic_algorithms(False)


def test_an_operation_without_a_deterministic_form_is_told() -> None:
    sentence = r"^put_ has no deterministic form on this device: leave out deterministic\.$"
    with pytest.raises(UserError, match=sentence), chosen_algorithms(True):
        torch.zeros(3).put_(torch.tensor([0]), torch.tensor([1.0]))
