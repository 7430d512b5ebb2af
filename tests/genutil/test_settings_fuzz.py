"""Wrong and extreme values of every key, by seed: each works, or is told in a sentence before anything is written."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from genutil.cli.command_line import parse, resolve
from genutil.config import KEYS, Experiment
from genutil.errors import UserError
from genutil.run import run
from genutil.saved import checkpoints
from models.wirings.registry import WIRINGS
from tests.genutil.runs import tiny
from tests.genutil.test_rule_options import SETTINGS

pytestmark = pytest.mark.usefixtures("one_thread")

WRONG: list[Any] = [
    *(None, True, False, -1, 0, 1, 2**31, 2**63, 2**64, -(2**70), 10**400),
    *(0.5, -0.5, 1e-300, 1e300, float("inf"), float("nan"), 1e31),
    *("", "no", "x", "x" * 5000, "a\0b", "\ud800", "..", "/", ".", "~", "app:", "1e400", "0x1F", "१", "ß", "1\n2"),
    *([], [None], [1, "x"], [[1]], [2**70], ["a\0b"], {}, {"a": 1}, {1: 2}, b"bytes", (1, 2), object()),
]


@pytest.mark.parametrize("key", KEYS)
def test_a_wrong_value_in_a_file_is_told_in_a_sentence(key: str) -> None:
    for value in WRONG:
        try:
            experiment = Experiment.from_settings({key: value})
        except UserError as error:
            said = str(error)
            assert len(said) < 700
            assert "\n" not in said
        else:
            assert Experiment.from_settings(experiment.to_dict()) == experiment


@pytest.mark.parametrize("key", KEYS)
def test_a_wrong_value_on_the_command_line_is_told_in_a_sentence(key: str) -> None:
    for value in [value for value in WRONG if isinstance(value, str | int | float)]:
        try:
            resolve(parse(["app:quickstart", f"--{key}={value}"]), {})
        except UserError as error:
            said = str(error)
            assert len(said) < 5700
            assert "\n" not in said.replace(str(value), "")


QUICK = {"data": "digits", "image_size": 16, "in_channels": 1, "batch_size": 64, "only_batches": 1, "num_epochs": 1}
NETWORKS = SETTINGS | {
    "mobilenetv1_like": {"in_channels": 3, "width_mult": 1.0},
    "mobilenetv1": {"width_mult": 0.05, "in_channels": 3},
    "shufflenetv2": {"width_mult": 0.5, "in_channels": 3, "image_size": 32},
    "vgg": {"depth": 11, "width_mult": 0.0625, "image_size": 32},
    "imagenet_resnet": {"depth": 50, "image_size": 8, "in_channels": 3},
}
EXTREMES: list[dict[str, Any]] = [
    {},
    {"image_size": 1},
    {"image_size": 16, "batch_size": 1},
    {"prune_rate": 0.9999999},
    {"prune_rate": 0.0},
    {"lr": 1e30},
    {"lr": 0},
    {"weight_decay": 1e30},
    {"width_mult": 1e-9},
    {"width_mult": 1000.0},
    {"dim": 2**31 - 1},
    {"dim": 1},
    {"output_size": 2**31 - 1},
    {"in_channels": 2**31 - 1},
    {"channel_count": 2**31 - 1},
    {"feature_dim": 2**31 - 1},
    {"cardinality": 2**20, "base_width": 2**20},
    {"num_steps": 2**31 - 1, "only_batches": 1, "profile": True},
    {"warmup_epochs": 1e30},
    {"lr_scheduler": "multistep", "multistep_lr_milestones": [2**31 - 1]},
    {"lr_scheduler": "exponential", "exp_decaying_lr_gamma": 1e30},
    {"solver": "dopri5", "tolerance": 1e-300},
    {"bn_epsilon": 1e30},
    {"validation_share": 0.99999},
    {"batch_size": 2**31 - 1},
    {"image_size": 2**31 - 1, "profile": True},
    {"optimizer": "adam", "lr": 1e-30},
    {"clip_grad_norm": 1e-30},
]
ALL = [(network, rule, extreme) for network in NETWORKS for rule in WIRINGS for extreme in range(len(EXTREMES))]
LARGE = {"mobilenetv1_like", "imagenet_resnet", "shufflenetv2", "randwire"}
"""Networks whose smallest forms take seconds."""


def attempt(folder: Path, network: str, rule: str, extreme: int) -> None:
    """A run of one batch; it works, or a sentence is all that comes of it, before anything is written."""
    settings = {**QUICK, "gpus": [], "model": network, "wiring": rule, "prune_rate": 0.5}
    settings |= NETWORKS[network] | EXTREMES[extreme]
    places = {"save_dir": str(folder / "checkpoints"), "log_dir": str(folder / "runs")}
    try:
        run(Experiment.from_settings({**settings, **places, "name": "fuzz"}))
        said = ""
    except UserError as error:
        said = str(error)
    left = list(folder.iterdir()) if folder.exists() else []
    shutil.rmtree(folder, ignore_errors=True)
    assert len(said) < 700
    assert not said or "The loss is" in said or not left, said


@pytest.mark.parametrize("extreme", range(len(EXTREMES)))
def test_an_extreme_setting_works_or_is_told(extreme: int, tmp_path: Path) -> None:
    attempt(tmp_path / "a", "static", "dnw", extreme)


@pytest.mark.parametrize("network", ["resnet", "continuous_time", "vgg", "mobilenetv1"])
@pytest.mark.parametrize(
    "extreme", [{"width_mult": 1e-9}, {"image_size": 1}, {"image_size": 16, "batch_size": 1}, {"tolerance": 1e-300}]
)
def test_what_networks_cannot_be_is_told(network: str, extreme: dict[str, Any], tmp_path: Path) -> None:
    attempt(tmp_path / "a", network, "dnw", EXTREMES.index(extreme) if extreme in EXTREMES else 21)


@pytest.mark.slow
def test_networks_under_rules_at_extremes_work_or_are_told(tmp_path: Path) -> None:
    small = [case for case in ALL if case[0] not in LARGE]
    draw = random.Random(12)
    for number, case in enumerate([*draw.sample(small, 30), *draw.sample(ALL, 4)]):
        attempt(tmp_path / str(number), *case)


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The places of all values in a nested dict or list, the containers too."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, part in inner for place in leaves(part, (*path, key)))]


def changed(value: Any, path: tuple[Any, ...], odd: Any) -> Any:
    """The same with another value in a place; without it where that is `Ellipsis`."""
    if not path:
        return odd
    copy = dict(value) if isinstance(value, dict) else list(value)
    if len(path) == 1 and odd is Ellipsis:
        del copy[path[0]]
    else:
        copy[path[0]] = changed(value[path[0]], path[1:], odd)
    return copy


ODD: list[Any] = [None, -1, 2**70, "x", [], {}, [1], {"a": 1}, 0.5, float("nan"), True, torch.ones(2), ...]


def test_odd_members_of_a_checkpoint_are_told_or_work(tmp_path: Path) -> None:
    """Resumed for training, evaluated and profiled, with a member that is missing or odd, at places drawn by seed."""
    last = run(tiny(tmp_path / "whole", num_epochs=1, only_batches=1))["checkpoint"]
    whole = torch.load(last, weights_only=True)
    places = [path for path in leaves(whole) if path and path[0] != "format"]
    draw = random.Random(3)
    inside = [path for path in places if path[0] != "settings"]
    told: list[str] = []
    for number in range(40):
        path = draw.choice(inside if number % 3 else places)
        odd = draw.choice(ODD)
        damaged = tmp_path / "damaged" / "last.pt"
        damaged.parent.mkdir(exist_ok=True)
        torch.save(changed(whole, path, odd), damaged)
        call = draw.choice(({}, {"evaluate": True}, {"profile": True}))
        try:
            saved = checkpoints.read(damaged)["settings"]
            more = {"num_epochs": 2, "only_batches": 1, "gpus": [], "resume": str(damaged), **call}
            run(Experiment.from_saved(saved, {**more, "save_dir": str(tmp_path / "b"), "log_dir": str(tmp_path / "c")}))
        except UserError as error:
            told.append(str(error))
    assert len(told) > 15
    assert max(map(len, told)) < 700
