"""Settings as runs kept them before rules owned their options, in the words of today."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from genutil.settings.network import SELF_WIRED_NETWORKS

UNREAD_BY_SELF_WIRED = (
    "wiring_interval",
    "wiring_begin",
    "wiring_end",
    "wiring_fraction",
    "str_initial",
    "str_decay",
)
"""Options whose defaults held for networks with graphs of their own, whatever the settings said."""


def is_of_then(settings: Mapping[str, Any]) -> bool:
    """Whether the settings were kept by a run of that time: the rule is called graph, and every option is listed."""
    return "graph" in settings and settings.keys() >= {"rho", *UNREAD_BY_SELF_WIRED}


def translate(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What the run was in fact; other settings come back as they are."""
    if not is_of_then(settings) or settings.get("model") not in SELF_WIRED_NETWORKS:
        return dict(settings)
    return {key: value for key, value in settings.items() if key not in UNREAD_BY_SELF_WIRED}
