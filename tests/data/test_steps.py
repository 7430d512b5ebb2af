from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.steps import Place, Steps


def parts(images: int, batch_size: int, world_size: int, *, training: bool) -> list[Steps]:
    return [Steps(images, batch_size, Place(rank, world_size), training=training) for rank in range(world_size)]


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 200), st.integers(1, 40), st.integers(1, 7))
def test_evaluation_shows_every_position_once(images, batch_size, world_size):
    ranks = parts(images, batch_size, world_size, training=False)
    positions = []
    for step in range(len(ranks[0])):
        cut = [rank[step] for rank in ranks]
        positions += [position for part in cut for position in range(part.start, part.stop)]
        assert {part.total for part in cut} == {sum(part.stop - part.start for part in cut)}
    assert positions == list(range(images))


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 200), st.integers(7, 40), st.integers(1, 7))
def test_training_leaves_out_only_a_last_batch_that_is_too_small(images, batch_size, world_size):
    rest = images % batch_size
    too_small = rest < 2 * world_size
    if too_small and images < batch_size:
        with pytest.raises(ValueError, match="too few"):
            parts(images, batch_size, world_size, training=True)
        return
    ranks = parts(images, batch_size, world_size, training=True)
    seen = 0
    for step in range(len(ranks[0])):
        sizes = [rank[step].stop - rank[step].start for rank in ranks]
        assert max(sizes) - min(sizes) <= 1
        assert min(sizes) >= (2 if sum(sizes) < batch_size else 1)
        assert [rank[step].start for rank in ranks][1:] == [rank[step].stop for rank in ranks][:-1]
        seen += sum(sizes)
    assert seen == images - (rest if too_small else 0)


def test_a_batch_needs_an_image_for_each_process():
    with pytest.raises(ValueError, match="batch_size 3 is less than an image for each of 4 processes"):
        Steps(100, 3, Place(0, 4), training=True)
