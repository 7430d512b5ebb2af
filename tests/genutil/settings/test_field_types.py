"""Types of keys, in words and in kinds."""

from __future__ import annotations

import pytest

from genutil.config import KEYS
from genutil.settings.field_types import expectation, is_list, is_switch, is_text


@pytest.mark.parametrize(
    ("key", "kinds", "words"),
    [
        ("name", (True, False, False), "text"),
        ("wiring", (True, False, False), "one of complete, random"),
        ("optimizer", (True, False, False), "one of sgd, adam, rmsprop"),
        ("rho", (True, False, False), "a number, above 0 and at most 1, or gamma"),
        ("dense_layers", (True, True, False), "a list of texts"),
        ("graph_files", (True, True, False), "a list of texts"),
        ("gpus", (False, True, False), "a list of whole numbers, each at least 0"),
        ("lr", (False, False, False), "a number, at least 0"),
        ("nesterov", (False, False, True), "true or false"),
    ],
)
def test_kinds_and_words(key: str, kinds: tuple[bool, bool, bool], words: str) -> None:
    field = KEYS[key]
    assert (is_text(field), is_list(field), is_switch(field)) == kinds
    assert expectation(field).startswith(words)
