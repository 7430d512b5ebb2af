"""The one exception that means: the user asked for something that cannot be."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake that its maker can mend: told in one or two sentences, without a traceback, exit status 2."""


def nearest(word: str, known: Iterable[str]) -> str:
    """The one of `known` that is spelt most like `word`."""
    return difflib.get_close_matches(word, list(known), n=1, cutoff=0.0)[0]


def shortened(value: object, limit: int = 60) -> str:
    """A value as a message shows it: in one line of so many characters at most."""
    text = "".join(letter if letter.isprintable() else "?" for letter in str(value)[: limit + 1])
    return text if len(text) <= limit else text[: limit - 3] + "..."
