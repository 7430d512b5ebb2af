from __future__ import annotations

import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from genutil.config import (
    DEEP_NETWORKS,
    INVOCATION_SECTIONS,
    KEYS,
    RUN_KEYS,
    RUN_SECTIONS,
    SECTIONS,
    SELF_WIRED_NETWORKS,
    Experiment,
    nearest_key,
)
from genutil.errors import UserError
from genutil.settings.field_types import expectation, is_list, is_switch
from models import NETWORKS


def test_settings_come_without_torch():
    code = "import sys, genutil.config, genutil.cli.command_line, genutil.cli.usage; print('torch' in sys.modules)"
    root = Path(__file__).parents[2]
    answer = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "False"


def test_every_key_stands_in_one_section_and_says_what_it_means():
    names = [name for section in SECTIONS for name in section.model_fields]
    assert len(names) == len(set(names)) == len(KEYS)
    assert set(names) == set(Experiment.model_fields)
    assert list(Experiment().to_dict()) == list(KEYS)
    for key, field in KEYS.items():
        assert field.description, key
        assert expectation(field), key


def test_a_run_and_its_invocation_share_no_key():
    run = {name for section in RUN_SECTIONS for name in section.model_fields}
    invocation = {name for section in INVOCATION_SECTIONS for name in section.model_fields}
    assert run == RUN_KEYS
    assert not run & invocation
    assert {"resume", "evaluate", "profile", "init_from", "data_dir", "gpus"} <= invocation
    assert {"model", "wiring", "data", "mean", "lr", "seed", "save_dir", "verify"} <= run


@pytest.mark.parametrize(
    ("key", "value", "read"),
    [
        ("lr", "5e-5", 5e-5),  # YAML 1.1 reads 5e-5 as text
        ("lr", 1, 1.0),
        ("batch_size", 64.0, 64),
        ("gpus", 0, [0]),
        ("gpus", (1, 0), [1, 0]),
        ("gpus", ["0", "1"], [0, 1]),
        ("multistep_lr_milestones", 80, [80]),
        ("multistep_lr_milestones", ["0.5", "80"], [0.5, 80]),
        ("evaluate", "no", False),
        ("precision", 16, "16"),
        ("rho", "gamma", "gamma"),
        ("rho", 1, 1.0),
        ("resume", "", None),
        ("resume", False, None),
        ("test_batch_size", "none", None),
        ("json", "out.json", "out.json"),
    ],
)
def test_reads_what_is_meant(key, value, read):
    needed = {"wiring": "td"} if key == "rho" else {}
    assert Experiment.from_settings({key: value} | needed).to_dict()[key] == read


def test_a_home_folder_is_expanded(monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    assert Experiment.from_settings({"data_dir": "~/images"}).data_dir == "/home/somebody/images"
    assert Experiment.from_settings({"resume": "pretrained:dnw_x225"}).resume == "pretrained:dnw_x225"


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"lr": "fast"}, "lr must be a number, at least 0, not 'fast'."),
        ({"lr": True}, "lr must be a number, at least 0, not true."),
        ({"lr": float("nan")}, "lr must be a number, at least 0, not nan."),
        ({"lr": float("inf")}, "lr must be a number, at least 0, not inf."),
        ({"lr": None}, "lr must be a number, at least 0, not nothing."),
        ({"batch_size": 0.1}, "batch_size must be a whole number, at least 1, not 0.1."),
        ({"batch_size": 0}, "batch_size must be a whole number, at least 1, not 0."),
        ({"batch_size": True}, "batch_size must be a whole number, at least 1, not true."),
        ({"seed": 2**32}, "seed must be a whole number, at least 0 and below 4294967296, not 4294967296."),
        ({"prune_rate": 1}, "prune_rate must be a number, at least 0 and below 1, not 1."),
        ({"rho": 0}, "rho must be a number, above 0 and at most 1, or gamma, not 0."),
        ({"rho": 1.5}, "rho must be a number, above 0 and at most 1, or gamma, not 1.5."),
        ({"evaluate": "maybe"}, "evaluate must be true or false, not 'maybe'."),
        ({"strategy": "fsdp"}, "strategy must be one of ddp, dp, not 'fsdp'."),
        ({"gpus": ["a"]}, "gpus must be a list of whole numbers, each at least 0, not ['a']."),
        ({"gpus": [0, 1, 0]}, "gpus names one twice: [0, 1, 0]."),
        ({"gpus": [0], "devices": 2}, "devices counts processes on the CPU; give it or gpus, not both."),
        ({"data": 5}, "data must be text, not 5."),
        ({"data": "data.x:Y"}, "data names a data set, such as imagenet or cifar10, not 'data.x:Y'."),
        ({"mean": [0.5, 0.5], "std": [1, 1]}, "mean has 2 values for 3 channels (in_channels)."),
        ({"mean": [0.5] * 3}, "mean and std come together, or neither."),
        ({"std": [1, 0, 1], "mean": [0] * 3}, "std must be a list of numbers, each above 0, not [1, 0, 1]."),
        ({"multistep_lr_milestones": [120, 80]}, "multistep_lr_milestones must ascend, not [120, 80]."),
        (
            {"multistep_lr_milestones": [1.5]},
            "multistep_lr_milestones must be a list of whole numbers, each at least 0, "
            "or numbers, each above 0 and below 1, not [1.5].",
        ),
        (
            {"lr_scheduler": "multistep"},
            "lr_scheduler: multistep needs multistep_lr_milestones, the epochs of its steps.",
        ),
        ({"nesterov": True, "momentum": 0}, "nesterov needs a momentum above 0."),
        ({"use_graph": "a.pt"}, "use_graph belongs to wiring: fine_tune, and wiring is complete."),
        (
            {"use_init": "a.pt", "wiring": "fine_tune"},
            "use_init needs use_graph, the checkpoint that the kept edges come from.",
        ),
        (
            {"wiring": "fine_tune"},
            "wiring: fine_tune needs use_graph, a checkpoint of the same network trained with wiring: complete.",
        ),
        (
            {"wiring": "fine_tune", "use_graph": "a.pt", "init_from": "b.pt"},
            "init_from and use_graph both say which weights to start from: give one of them.",
        ),
        (
            {"small": True, "model": "static"},
            "small wires the classifier of mobilenetv1_like; static has no such form.",
        ),
        (
            {"budget": "erk", "model": "static"},
            "model static has graphs of its own, which take no budget and no dense_layers.",
        ),
        ({"model": "resnet"}, "model resnet needs a depth, as in depth: 20."),
        (
            {"wiring": "gradual_magnitude", "wiring_begin": 0.8},
            "wiring_begin must be below wiring_end.",
        ),
        (
            {"resume": "a.pt", "init_from": "b.pt"},
            "resume goes on with a run and init_from starts another: give one of them.",
        ),
        ({"strategy": "dp", "num_nodes": 2}, "strategy: dp works on one machine; ddp on several."),
        ({"name": "../../elsewhere"}, "name is a folder inside save_dir and log_dir, not '../../elsewhere'."),
        ({"name": "/elsewhere"}, "name is a folder inside save_dir and log_dir, not '/elsewhere'."),
        ({"batchsize": 3}, "batchsize is not a setting; the nearest is batch_size."),
        ({"learning_rate": 3}, "learning_rate is not a setting; the nearest is lr."),
    ],
)
def test_a_mistake_is_told_in_a_sentence(settings, sentence):
    with pytest.raises(UserError) as mistake:
        Experiment.from_settings(settings)
    assert str(mistake.value) == sentence


def test_a_mistake_names_where_the_value_was_given():
    with pytest.raises(UserError, match=r"^lr \(in a\.yml\) must be"):
        Experiment.from_settings({"lr": "fast"}, {"lr": "lr (in a.yml)"})
    with pytest.raises(UserError, match=r"^--lrr is not a setting; the nearest is lr\."):
        Experiment.from_settings({"lrr": 1}, {"lrr": "--lrr"})


def test_a_long_value_is_cut_short():
    with pytest.raises(UserError) as mistake:
        Experiment.from_settings({"lr": "9" * 500 + "x"})
    assert len(str(mistake.value)) < 120


@pytest.mark.parametrize("way", ["resume", "evaluate", "profile"])
def test_fine_tune_needs_a_trained_graph_only_to_start_training(way):
    Experiment.from_settings({"wiring": "fine_tune", way: "a.pt" if way == "resume" else True})


def test_profile_wins_over_skip_profiling():
    assert Experiment().profiles
    assert not Experiment(skip_profiling=True).profiles
    assert Experiment(skip_profiling=True, profile=True).profiles


def test_says_whether_it_trains():
    assert Experiment().trains
    assert not Experiment(evaluate=True).trains
    assert not Experiment(profile=True).trains


def test_kinds_of_networks_are_those_that_there_are():
    signatures = {name: inspect.signature(network).parameters for name, network in NETWORKS.items()}
    assert set(SELF_WIRED_NETWORKS) == {name for name, parameters in signatures.items() if "wiring" in parameters}
    assert set(DEEP_NETWORKS) == {name for name, parameters in signatures.items() if "depth" in parameters}


ODD = {
    "model": "static",
    "wiring": "td",
    "rho": "gamma",
    "prune_rate": 0.1 + 0.2,
    "mean": [0.1, 0.2, 1 / 3],
    "std": [0.5, 1, 2],
    "multistep_lr_milestones": [80, 120],
    "gpus": [1, 0],
    "precision": "bf16",
    "test_batch_size": 7,
    "json": "results.json",
    "resume": "last.pt",
}


@pytest.mark.parametrize("dump", [lambda x: yaml.safe_load(yaml.safe_dump(x)), lambda x: json.loads(json.dumps(x))])
@pytest.mark.parametrize("settings", [{}, ODD])
def test_settings_survive_yaml_and_json(dump, settings):
    experiment = Experiment.from_settings(settings)
    assert Experiment.from_settings(dump(experiment.to_dict())) == experiment


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "lr": st.floats(0, 1e6),
            "tolerance": st.floats(1e-300, 1),
            "seed": st.integers(0, 2**32 - 1),
            "name": st.text("abc/=-", max_size=8).filter(lambda text: not text.startswith("/")),
            "wiring": st.sampled_from(["dnw", "td", "random"]),
            "rho": st.one_of(st.just("gamma"), st.floats(0.01, 1)),
            "gpus": st.lists(st.integers(0, 99), unique=True),
            "verify": st.booleans(),
            "warmup_epochs": st.floats(0, 10),
        },
    ).filter(lambda settings: "rho" not in settings or settings.get("wiring") == "td")
)
def test_any_experiment_survives_yaml(settings):
    experiment = Experiment.from_settings(settings)
    text = yaml.safe_dump(experiment.to_dict())
    assert Experiment.from_settings(yaml.safe_load(text)) == experiment


def test_a_checkpoint_keeps_the_run_and_not_its_invocation():
    experiment = Experiment.from_settings({**ODD, "data_dir": "/data", "lr": 0.3})
    saved = experiment.to_saved()
    assert set(saved) == RUN_KEYS
    again = Experiment.from_saved(saved, {"resume": "other.pt", "evaluate": True, "data_dir": "/elsewhere"})
    assert (again.resume, again.evaluate, again.data_dir) == ("other.pt", True, "/elsewhere")
    assert (again.gpus, again.json_file) == (None, None)
    assert again.to_saved() == saved


def test_what_belonged_to_an_invocation_is_not_taken_over():
    everything = Experiment.from_settings({**ODD, "data_dir": "/data", "threads": 3, "skip_profiling": True}).to_dict()
    again = Experiment.from_saved(everything)
    for section in INVOCATION_SECTIONS:
        for name, field in section.model_fields.items():
            assert getattr(again, name) == field.get_default(call_default_factory=True), name


def test_the_command_line_wins_over_a_checkpoint():
    saved = Experiment(batch_size=512, lr=0.3).to_saved()
    again = Experiment.from_saved(saved, {"batch_size": "8"})
    assert (again.batch_size, again.lr) == (8, 0.3)


def test_a_checkpoint_with_unknown_settings_is_refused():
    saved = Experiment().to_saved()
    with pytest.raises(UserError, match=r"^warp \(in the checkpoint\) is not a setting"):
        Experiment.from_saved({**saved, "warp": 9})
    with pytest.raises(UserError, match=r"^--lr must be a number"):
        Experiment.from_saved(saved, {"lr": "fast"})
    with pytest.raises(UserError, match=r"^lr \(in the checkpoint\) must be a number"):
        Experiment.from_saved({**saved, "lr": "fast"})


@pytest.mark.parametrize(
    ("folder", "name", "expected"),
    [
        ("here/mine", "mine", "here"),
        ("here/mine-3", "mine", "here"),
        ("here/group/mine", "group/mine", "here"),
        ("here/downloads", "mine", "./checkpoints"),
        ("here/mine-x", "mine", "./checkpoints"),
        ("here/mine", None, "./checkpoints"),
    ],
)
def test_a_checkpoint_chooses_no_folder(folder: str, name: str | None, expected: str, tmp_path: Path):
    saved = Experiment(save_dir="/root/theirs", log_dir="/root/theirs", name=name).to_saved()
    resumed = Experiment.from_saved(saved, {"resume": str(tmp_path / folder / "last.pt")})
    assert resumed.save_dir == (expected if expected.startswith(".") else str(tmp_path / expected))
    assert resumed.log_dir == "./runs"
    given = Experiment.from_saved(saved, {"resume": f"{folder}/last.pt", "save_dir": "a", "log_dir": "b"})
    assert (given.save_dir, given.log_dir) == ("a", "b")


def test_a_changed_copy_is_checked_as_a_whole():
    experiment = Experiment(lr_scheduler="multistep", multistep_lr_milestones=[1])
    changed = experiment.but(lr_scheduler="cosine", multistep_lr_milestones=[], lr=0.5)
    assert (changed.lr, changed.lr_scheduler, experiment.lr) == (0.5, "cosine", 0.1)
    with pytest.raises(UserError, match="multistep needs"):
        experiment.but(multistep_lr_milestones=[])


@pytest.mark.parametrize(
    ("word", "key"),
    [
        ("epochs", "num_epochs"),
        ("dataset", "data"),
        ("gpu", "gpus"),
        ("weight_deca", "weight_decay"),
        ("sparsity", "prune_rate"),
    ],
)
def test_the_nearest_key(word, key):
    assert nearest_key(word) == key


def test_kinds_of_keys():
    assert {key for key in KEYS if is_list(KEYS[key])} == {
        "mean",
        "std",
        "multistep_lr_milestones",
        "gpus",
        "seeds",
        "index",
        "dense_layers",
        "tracker",
        "lr_values",
        "lr_boundaries",
        "graph_param",
        "graph_files",
        "stage_graphs",
    }
    assert is_switch(KEYS["evaluate"])
    assert not is_switch(KEYS["rho"])
