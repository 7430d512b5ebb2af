"""Places in the arena, and the distance of planes."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from models.sparse.arena import Arena, plane_stride, round_up
from models.sparse.plan_spec import HALF_UNIT, UNIT

wishes = st.lists(st.tuples(st.integers(1, 500), st.integers(0, 20), st.integers(0, 20)), max_size=30)


@given(wishes)
def test_what_lives_at_once_lies_apart(wanted: list[tuple[int, int, int]]):
    arena = Arena()
    taken = []
    for length, one, other in wanted:
        first, last = sorted((one, other))
        taken.append((arena.take(length, first, last), length, first, last))
    for (place, length, first, last), (other_place, other_length, other_first, other_last) in combinations(taken, 2):
        apart = place + length <= other_place or other_place + other_length <= place
        assert apart or last < other_first or other_last < first
    assert arena.length == max((place + length for place, length, *_ in taken), default=0)


def test_what_does_not_live_at_once_shares_its_place():
    arena = Arena()
    assert [arena.take(100, level, level + 1) for level in range(6)] == [0, 100, 0, 100, 0, 100]
    assert arena.length == 200


@given(st.integers(1, 230), st.integers(1, 230), st.sampled_from([UNIT, HALF_UNIT]))
def test_planes_have_room_for_whole_units_and_for_a_vector_at_the_last_row(height: int, width: int, unit: int):
    stride = plane_stride((height, width), unit)
    assert stride % unit == 0
    assert stride >= round_up(height * width, unit) >= height * width
    assert stride >= (height - 1) * width + unit
    assert stride // unit <= 8 or stride // unit % 2 == 1
