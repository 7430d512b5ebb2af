from __future__ import annotations

import pytest

from genutil.config import Experiment
from genutil.errors import UserError
from genutil.settings import app_files
from genutil.settings.dialect_keras_zoo import translate

ENTRIES = """\
module: 'Models.Resnets'
model: 'cifar_resnet110'
model_parameters:
    shortcut_mode: 'A'
    block_type: 'original'
train_parameters:
    logdir: 'logs'
    run_name: 'resnet110_v1'
    log_interval: 400
    val_interval: 4000
skip_error_test: False
---
module: 'Models.Resnets'
model: 'WRN_40_4'
model_parameters: {}
train_parameters:
    logdir: 'logs'
    run_name: 'WRN_40_4'
    lr_values: [0.1, 0.02]
    lr_boundaries: [24, 48]
    nesterov: True
    batch_size: 64
skip_error_test: True
"""


def test_its_own_file_is_understood(tmp_path):
    path = tmp_path / "experiments.yaml"
    path.write_text(ENTRIES)
    resnet, wrn = (Experiment.from_settings(app_files.read(path, document=n).settings) for n in (0, 1))
    assert (resnet.model, resnet.depth, resnet.block, resnet.shortcut) == ("resnet", 110, "v1", "A")
    assert (resnet.name, resnet.log_dir, resnet.log_interval, resnet.val_interval) == (
        "resnet110_v1",
        "logs",
        400,
        4000,
    )
    assert (resnet.num_steps, resnet.lr_values, resnet.batch_size) == (64000, [0.01, 0.1, 0.01, 0.001], 128)
    assert (resnet.data, resnet.padding, resnet.skip_error_test) == ("cifar10", "same_tensorflow", False)
    assert (wrn.model, wrn.depth, wrn.width_mult, wrn.shortcut) == ("wrn", 40, 4, None)
    assert (wrn.num_steps, wrn.lr_values, wrn.lr_boundaries) == (48, [0.1, 0.02], [24, 48])
    assert (wrn.nesterov, wrn.batch_size, wrn.skip_error_test) == (True, 64, True)


@pytest.mark.parametrize(
    ("model", "parameters", "expected"),
    [
        ("cifar_resnet20", {"block_type": "preactivated", "shortcut_type": "B"}, ("resnet", 20, "v2", "B")),
        ("cifar_resnet164", {}, ("resnet", 164, "v2", None)),
        ("cifar_resnet1001", {"block_type": "bootleneck"}, ("resnet", 1001, "v2", None)),
        ("cifar_WRN_16_8", {}, ("wrn", 16, "v1", None)),
        ("VGG16", {}, ("vgg", 16, "v1", None)),
    ],
)
def test_its_networks_are_ours(model, parameters, expected):
    today = translate({"module": "Models.X", "model": model, "model_parameters": parameters})
    base = today.pop("base")
    assert (app_files.APPS / base).is_file()
    of = Experiment.from_settings(today)
    assert (of.model, of.depth, of.block, of.shortcut) == expected


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"model": "cifar_lenet"}, "no model cifar_lenet"),
        ({"model": "VGG11", "model_parameters": {"shortcut_mode": "A"}}, "shortcut_mode in model_parameters"),
        ({"model": "cifar_resnet20", "model_parameters": {"block_type": "new"}}, "new in block_type"),
        ({"model": "cifar_resnet20", "train_parameters": {"optimiser": "adam"}}, "optimiser in train_parameters"),
        ({"model": "cifar_resnet20", "train_parameters": 3}, "train_parameters holds lines"),
        ({"model": "cifar_resnet20", "lr": 1}, "lr is no part"),
    ],
)
def test_what_it_does_not_have_is_told(entry, message):
    with pytest.raises(UserError, match=message):
        translate({"module": "Models.Resnets", **entry})


def test_other_settings_stay_as_they_are():
    assert translate({"model": "resnet", "depth": 20}) == {"model": "resnet", "depth": 20}
