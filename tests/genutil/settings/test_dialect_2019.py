from __future__ import annotations

import pytest

from genutil.config import Experiment
from genutil.settings.dialect_2019 import VALUES, is_of_2019, translate

MODEL = "models.graphs.mobilenetv1like:MobileNetV1Like"


@pytest.mark.parametrize(("key", "old"), [(key, old) for key, words in VALUES.items() for old in words])
def test_every_old_value_means_one_of_today(key, old):
    milestones = {"multistep_lr_milestones": [1]}
    assert getattr(Experiment.from_settings(translate({key: old}) | milestones), key) == VALUES[key][old]


def test_todays_settings_stay_as_they_are():
    settings = {"model": "static", "data": "imagenet", "test_batch_size": 3, "epoch_len": 5, "lr": 1}
    assert translate(settings) == settings
    assert not is_of_2019(settings)


def test_old_spellings_hold_where_both_stand():
    assert translate({"nestorov": True, "nesterov": False}) == {"nesterov": True}
    assert translate({"random_seed": 3, "seed": 1996}) == {"seed": 3}
    assert translate({"seed": 1996}) == {"seed": 1996}


def test_what_was_never_read_is_left_out_of_old_files_only():
    unread = {"topk": [1, 5], "val_resize": 32, "prune": True, "setting": "static"}
    assert translate({"model": MODEL, **unread}) == {"model": "mobilenetv1_like"}
    assert translate({"title": "base=x", "lr": 1, **unread}) == {"lr": 1}
    assert translate({"model": "mobilenetv1_like", **unread}) == {"model": "mobilenetv1_like", **unread}


def test_imagenet_was_validated_with_batch_size():
    old = {"model": MODEL, "batch_size": 64, "test_batch_size": 8}
    assert "test_batch_size" not in translate({**old, "data": "data.imagenet:ImageNet"})
    assert translate({**old, "data": "data.cifar10:CIFAR10"})["test_batch_size"] == 8


@pytest.mark.parametrize(("schedule", "kept"), [("cosine", True), ("linear_decaying", False), ("multistep", False)])
def test_epoch_len_counted_steps_for_the_cosine_only(schedule, kept):
    assert ("epoch_len" in translate({"model": MODEL, "lr_scheduler": schedule, "epoch_len": 10})) == kept


def test_the_plain_network_did_not_read_the_wiring():
    old = {"model": "models.basic.mobilenetv1cifar:MobileNetV1CIFAR", "graph": "dnw", "prune_rate": 0.775}
    assert Experiment.from_settings(translate(old)).wiring == "complete"
