from __future__ import annotations

import torch

from genutil.system.randomness import reseed


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
