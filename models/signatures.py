"""The signature of a callable that hands on what it does not read itself."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any


def extended(own: Callable[..., Any], shared: Callable[..., Any]) -> inspect.Signature:
    """The parameters of `shared`, then those that `own` adds by keyword, in place of its own `*args` and `**kwargs`.

    `self` is left out. Set as `__signature__`, it tells `inspect.signature` and help texts what may be given.
    """
    first = [p for p in inspect.signature(shared).parameters.values() if p.name != "self"]
    added = [p for p in inspect.signature(own).parameters.values() if p.kind is p.KEYWORD_ONLY]
    rest = [p for p in first if p.kind is p.VAR_KEYWORD]
    return inspect.Signature([*(p for p in first if p.kind is not p.VAR_KEYWORD), *added, *rest])
