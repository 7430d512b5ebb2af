"""Entries of the experiments.yaml of cifar-vs-tensorflow2 (a CIFAR zoo for Keras), in the words of today."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from genutil.errors import UserError

NETWORKS = {
    r"(?:cifar_)?resnet(?P<depth>\d+)": ("resnet", "cifar/base/resnet.yml"),
    r"(?:cifar_)?wrn_(?P<depth>\d+)_(?P<width_mult>\d+)": ("wrn", "cifar/base/wrn.yml"),
    r"(?:cifar_)?vgg(?P<depth>\d+)": ("vgg", "cifar/base/vgg.yml"),
}
"""Patterns of its networks' names, with ours and the base that holds its recipe for them."""

BOTTLENECKS = (164, 1001)
"""Depths of the ResNets that are pre-activated without saying so."""

BLOCKS = {"original": "v1", "preactivated": "v2", "bottleneck": "v2", "bootleneck": "v2"}
SHORTCUTS = ("shortcut_mode", "shortcut_type")
TRAIN_KEYS = {"logdir": "log_dir", "run_name": "name"} | {
    key: key for key in ("log_interval", "val_interval", "lr_values", "lr_boundaries", "nesterov", "batch_size")
}
SECTIONS = ("module", "model", "model_parameters", "train_parameters", "skip_error_test")


def is_of_keras_zoo(settings: Mapping[str, Any]) -> bool:
    """Whether settings are an entry of its experiments.yaml."""
    return bool(settings.keys() & {"module", "model_parameters", "train_parameters"})


def translate(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The same experiment as an app file of today, with a base; other settings come back as they are.

    Raises:
        UserError: a network or a parameter that the zoo does not have.
    """
    if not is_of_keras_zoo(settings):
        return dict(settings)
    for key in settings:
        if key not in SECTIONS:
            raise UserError(f"{key} is no part of an experiment with a module; there are {', '.join(SECTIONS)}.")
    training = {
        _known(key, TRAIN_KEYS, "train_parameters"): value
        for key, value in _section(settings, "train_parameters").items()
    }
    if training.get("lr_boundaries"):
        training["num_steps"] = training["lr_boundaries"][-1]
    today = _network(str(settings.get("model")), _section(settings, "model_parameters")) | training
    if "skip_error_test" in settings:
        today["skip_error_test"] = settings["skip_error_test"]
    return today


def _network(name: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    found = [(re.fullmatch(pattern, name, re.IGNORECASE), ours) for pattern, ours in NETWORKS.items()]
    matches = [(match, ours) for match, ours in found if match]
    if not matches:
        raise UserError(f"There is no model {name} in the zoo; there are cifar_resnet20, WRN_40_4, VGG16 and the like.")
    match, (model, base) = matches[0]
    today: dict[str, Any] = {"base": base, "model": model} | {key: int(text) for key, text in match.groupdict().items()}
    if model == "resnet" and today["depth"] in BOTTLENECKS:
        today["block"] = "v2"
    for key, value in parameters.items():
        if key in SHORTCUTS and model != "vgg":
            today["shortcut"] = value
        elif key == "block_type" and model == "resnet":
            today["block"] = BLOCKS[_known(str(value), {word: word for word in BLOCKS}, "block_type")]
        else:
            raise UserError(f"{key} in model_parameters is not understood for {name}.")
    return today


def _section(settings: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    section = settings.get(key) or {}
    if not isinstance(section, Mapping):
        raise UserError(f"{key} holds lines of the form key: value, not {section!r}.")
    return section


def _known(key: str, words: Mapping[str, str], where: str) -> str:
    if key not in words:
        raise UserError(f"{key} in {where} is not understood; there are {', '.join(words)}.")
    return words[key]
