"""Settings as the code of 2019 (Discovering Neural Wirings) wrote them, in the words of today."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from genutil.errors import UserError

KEYS = {"nestorov": "nesterov", "random_seed": "seed", "graph": "wiring"}
"""Keys of today by their old spellings."""

VALUES = {
    "model": {
        "models.graphs.mobilenetv1like:MobileNetV1Like": "mobilenetv1_like",
        "models.graphs.neuralgraph:StaticNeuralGraph": "static",
        "models.graphs.neuralgraph:DiscreteTimeNeuralGraph": "discrete_time",
        "models.graphs.neuralgraph:ContinuousTimeNeuralGraph": "continuous_time",
        "models.basic.mobilenetv1cifar:MobileNetV1CIFAR": "mobilenetv1",
    },
    "data": {"data.imagenet:ImageNet": "imagenet", "data.cifar10:CIFAR10": "cifar10"},
    "lr_scheduler": {"linear_decaying": "linear", "exp_decaying": "exponential"},
}

NEVER_READ = {"title", "topk", "val_resize", "prune", "setting"}
NEVER_READ_BY = {
    "mobilenetv1": {"wiring", "prune_rate", "rho", "small"},
    "static": {"small"},
    "discrete_time": {"small"},
    "continuous_time": {"small"},
}


def is_of_2019(settings: Mapping[str, Any]) -> bool:
    """Whether the settings are an app file of 2019: its network is module:Class, or its runner gave it a title."""
    return "title" in settings or ":" in str(settings.get("model"))


def translate(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The same settings in today's keys and values; what the code of 2019 never read is left out.

    Where a key stands in both spellings, the old one holds: only that was read. Raises UserError where graph and wiring
    name different rules.
    """
    settings = rename_rule(settings)
    today = {
        key: VALUES[key].get(value, value) if key in VALUES and isinstance(value, str) else value
        for key, value in settings.items()
        if key not in KEYS
    }
    today |= {KEYS[key]: value for key, value in settings.items() if key in KEYS}
    unread = _unread(settings, today) if is_of_2019(settings) else set()
    return {key: value for key, value in today.items() if key not in unread}


def rename_rule(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The same settings with the rule under its key of today, wiring, instead of graph.

    Raises UserError where both stand and differ.
    """
    if "graph" not in settings:
        return dict(settings)
    if settings.get("wiring", settings["graph"]) != settings["graph"]:
        raise UserError(
            f"graph is the old name of wiring, and they differ: {settings['graph']} and {settings['wiring']}. "
            "Give one of them."
        )
    return {("wiring" if key == "graph" else key): value for key, value in settings.items()}


def _unread(settings: Mapping[str, Any], today: Mapping[str, Any]) -> set[str]:
    unread = NEVER_READ | NEVER_READ_BY.get(str(today.get("model")), set())
    if settings.get("data") == "data.imagenet:ImageNet":
        unread = unread | {"test_batch_size"}
    if today.get("lr_scheduler") != "cosine":
        unread = unread | {"epoch_len"}
    return unread
