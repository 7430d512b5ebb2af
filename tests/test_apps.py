"""The app files' settings. That their networks build and train is tested with the networks."""

from __future__ import annotations

import json

import pytest
import yaml

from genutil.config import Experiment
from genutil.settings import app_files
from genutil.settings.app_files import APPS
from genutil.settings.dialect_2019 import translate

BASES = sorted({*APPS.rglob("base.yml"), *APPS.glob("base/*.yml")})
NAMES = [app_files.app_name(path) for path in app_files.experiments()]

SMALL = {
    "data": "cifar10",
    "batch_size": 512,
    "lr_scheduler": "multistep",
    "multistep_lr_milestones": [80, 120],
    "multistep_lr_gamma": 0.1,
    "prune_rate": 0.95,
    "dim": 800,
    "downsample_dim": 32,
    "feature_dim": 100,
    "layers": 5,
}
MEDIUM = {"model": "mobilenetv1_like", "data": "cifar10", "lr_scheduler": "cosine"}
LARGE = {
    "model": "mobilenetv1_like",
    "data": "imagenet",
    "output_size": 1000,
    "image_size": 224,
    "batch_size": 512,
    "num_epochs": 250,
    "weight_decay": 5e-5,
    "lr_scheduler": "cosine",
}
COMMON = {
    "output_size": 10,
    "image_size": 32,
    "in_channels": 3,
    "batch_size": 128,
    "num_epochs": 160,
    "optimizer": "sgd",
    "lr": 0.1,
    "momentum": 0.9,
    "nesterov": False,
    "weight_decay": 1e-4,
    "decay_norm_and_bias": True,
    "label_smoothing": 0.0,
    "warmup_epochs": 0.0,
    "wiring": "complete",
    "prune_rate": 0.0,
    "small": False,
    "width_mult": 1.0,
    "use_graph": None,
    "use_init": None,
    "validation_share": 0.0,
    "augment": True,
}
SAVED = {"use_graph": "./saved/complete_final.pt"}

PUBLISHED = {
    **{
        f"small_scale/{network}_{name}": SMALL | {"model": network, "wiring": graph}
        for network in ("static", "discrete_time", "continuous_time")
        for name, graph in (("dnw", "dnw"), ("random_graph", "random"))
    },
    **{
        f"medium_scale/mobilenetv1_{name}": MEDIUM | own
        for name, own in {
            "complete_graph": {},
            "dnw_x225": {"wiring": "dnw", "prune_rate": 0.775},
            "dnw_no_update_x225": {"wiring": "dnw_no_update", "prune_rate": 0.775},
            "random_graph_x225": {"wiring": "random", "prune_rate": 0.775},
            "reg_td_x225": {"wiring": "reg_td", "prune_rate": 0.775, "rho": 0.95},
            "td_x225": {"wiring": "td", "prune_rate": 0.775, "rho": 0.95},
            "ft_x225": {"wiring": "fine_tune", "prune_rate": 0.775, "lr": 0.01, **SAVED},
            "lottery_one_shot_x225": {
                "wiring": "fine_tune",
                "prune_rate": 0.775,
                "use_init": "./saved/complete_init.pt",
                **SAVED,
            },
            "x25": {"model": "mobilenetv1", "width_mult": 0.25},
        }.items()
    },
    **{
        f"large_scale/mobilenetv1_{name}": LARGE | own
        for name, own in {
            "dnw_x225": {"wiring": "dnw", "prune_rate": 0.775},
            "dnw_x3": {"wiring": "dnw", "prune_rate": 0.7},
            "dnw_x49": {"wiring": "dnw", "prune_rate": 0.51},
            "dnw_small_x15": {"wiring": "dnw", "prune_rate": 0.85, "small": True},
            "dnw_small_x225": {"wiring": "dnw", "prune_rate": 0.775, "small": True},
            "random_graph_x225": {"wiring": "random", "prune_rate": 0.775},
            "random_graph_x49": {"wiring": "random", "prune_rate": 0.49},
        }.items()
    },
}
"""The 22 experiments of Discovering Neural Wirings and what each sets."""

BASELINES = {
    "large_scale/mobilenetv1_x25": LARGE | {"model": "mobilenetv1", "width_mult": 0.25},
    "large_scale/mobilenetv1_x50": LARGE | {"model": "mobilenetv1", "width_mult": 0.5},
    "large_scale/shufflenetv2_x50": LARGE | {"model": "shufflenetv2", "width_mult": 0.5},
    "large_scale/shufflenetv2_x100": LARGE | {"model": "shufflenetv2", "width_mult": 1.0},
}

MODELS_2019 = {
    "mobilenetv1_like": "models.graphs.mobilenetv1like:MobileNetV1Like",
    "static": "models.graphs.neuralgraph:StaticNeuralGraph",
    "discrete_time": "models.graphs.neuralgraph:DiscreteTimeNeuralGraph",
    "continuous_time": "models.graphs.neuralgraph:ContinuousTimeNeuralGraph",
    "mobilenetv1": "models.basic.mobilenetv1cifar:MobileNetV1CIFAR",
}


def load(name):
    return Experiment.from_settings(app_files.read(APPS / f"{name}.yml").settings)


def stated(path):
    return yaml.safe_load(path.read_text())


def test_all_published_experiments_are_there():
    assert len(PUBLISHED) == 22
    assert set(PUBLISHED) | set(BASELINES) <= set(NAMES)
    assert {"quickstart", "imagenette/mobilenetv1_dnw_x225"} <= set(NAMES)


@pytest.mark.parametrize("name", [*PUBLISHED, *BASELINES])
def test_recipes_are_the_published_ones(name):
    settings = load(name).to_dict()
    expected = COMMON | (PUBLISHED | BASELINES)[name]
    assert {key: settings[key] for key in expected} == expected


@pytest.mark.parametrize("name", NAMES)
def test_an_app_states_only_what_is_its_own(name):
    path = APPS / f"{name}.yml"
    own = stated(path)
    base = own.pop("base", None)
    inherited = {}
    if base:
        inherited = app_files.read(next(p for p in (path.parent / base, APPS / base) if p.is_file())).settings
    assert own
    assert not [key for key, value in own.items() if key in inherited and inherited[key] == value]


@pytest.mark.parametrize("name", NAMES)
def test_an_app_says_what_it_is_in_a_line(name):
    text = app_files.description(APPS / f"{name}.yml")
    assert 10 < len(text) <= 100


@pytest.mark.parametrize("name", NAMES)
def test_an_app_survives_a_checkpoint(name):
    experiment = load(name)
    assert Experiment.from_saved(json.loads(json.dumps(experiment.to_saved()))) == experiment


@pytest.mark.parametrize("path", BASES, ids=app_files.app_name)
def test_a_base_is_sound_and_no_experiment(path):
    Experiment.from_settings(app_files.read(path).settings)
    assert app_files.app_name(path) not in NAMES


def file_of_2019(name):
    """The app as people wrote it in 2019: every key flat, old spellings, keys that nothing ever read."""
    new = COMMON | PUBLISHED[name]
    old = {key: new[key] for key in ("batch_size", "lr", "lr_scheduler", "optimizer", "momentum", "weight_decay")}
    old |= {key: new[key] for key in ("output_size", "image_size", "num_epochs", "in_channels")}
    old |= {key: value for key, value in PUBLISHED[name].items() if key not in ("model", "data")}
    old |= {
        "model": MODELS_2019[new["model"]],
        "data": {"imagenet": "data.imagenet:ImageNet", "cifar10": "data.cifar10:CIFAR10"}[new["data"]],
        "test_batch_size": new["batch_size"],
        "workers": 8,
        "nestorov": False,
        "topk": [1, 5],
        "resume": "",
        "seed": 1996,
        "save_dir": "./checkpoints",
        "log_dir": "./runs",
        "evaluate": False,
        "val_resize": 32,
        "prune": True,
        "skip_profiling": True,
        "setting": "static",
    }
    return old


@pytest.mark.parametrize("generated", [False, True], ids=["written", "generated"])
@pytest.mark.parametrize("name", PUBLISHED)
def test_files_of_2019_run_unchanged(name, generated, tmp_path):
    path = tmp_path / "old.yml"
    old = file_of_2019(name)
    if generated:
        old |= {"base": name.rpartition("/")[2], "title": f"base={name}_lr=0.1"}
    path.write_text(yaml.safe_dump(old))
    experiment = Experiment.from_settings(app_files.read(path).settings)
    assert (experiment.seed, experiment.skip_profiling, experiment.resume) == (1996, True, None)
    same = {"seed": 0, "skip_profiling": False, "test_batch_size": None, "workers": load(name).workers}
    assert (experiment.test_batch_size or experiment.batch_size) == experiment.batch_size
    assert experiment.but(**same) == load(name)


def test_the_settings_of_the_exact_cases_are_those_of_our_apps(reference):
    cases = [json.loads(path.read_text()) for path in sorted((reference / "cases").glob("*.json"))]
    assert cases
    for case in cases:
        experiment = Experiment.from_settings(translate(case["settings"]))
        ours = load(case["app"].removeprefix("apps/").removesuffix(".yml"))
        for key in (*COMMON, "model", "data", "lr_scheduler", "multistep_lr_milestones", "rho", "dim", "layers"):
            assert getattr(experiment, key) == getattr(ours, key), (case["app"], key)
