"""Runs of networks whose layers are wired from outside, and of foreign weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from genutil.build import build_network
from genutil.config import Experiment
from genutil.errors import UserError
from genutil.run import run
from genutil.saved import checkpoints, loading
from genutil.saved.source import open_source
from genutil.settings.layers import Layer, merge
from models.wirings.rules import graphs

SMALL = {
    "model": "resnet",
    "depth": 8,
    "width_mult": 0.25,
    "data": "digits",
    "image_size": 8,
    "in_channels": 1,
    "batch_size": 128,
    "num_steps": 17,
    "lr_scheduler": "steps",
    "lr_values": [0.05, 0.01],
    "lr_boundaries": [10],
    "skip_profiling": True,
    "threads": 1,
    "gpus": [],
    "report": False,
}
OPTIONS = {"wiring_interval": 3, "str_initial": -3.0}
"""Of the rules that take them."""


def experiment(folder: Path, **settings) -> Experiment:
    places = {"save_dir": str(folder / "checkpoints"), "log_dir": str(folder / "runs")}
    return Experiment.from_settings(merge([Layer(OPTIONS, tolerant=True), Layer(SMALL | places | settings)]))


def trained(result: dict, of: Experiment) -> torch.nn.Module:
    network = build_network(of)
    loading.load_weights(open_source(result["checkpoint"]), network)
    return network.eval()


@pytest.mark.parametrize("budget", ["uniform", "global"])
@pytest.mark.parametrize("rule", ["dnw", "gradual_magnitude", "set", "rigl", "str"])
def test_a_run_ends_with_exactly_its_budget(tmp_path: Path, rule: str, budget: str):
    of = experiment(tmp_path, wiring=rule, prune_rate=0.9, budget=budget)
    result = run(of)
    network = trained(result, of)
    kept = [int(graph.acting().count_nonzero()) for _, graph in graphs(network)]
    possible = [graph.layout.possible for _, graph in graphs(network)]
    if budget == "uniform":
        assert kept == [n - int(0.9 * n) for n in possible]
    assert abs(sum(kept) - 0.1 * sum(possible)) <= len(kept)
    profiled = run(
        experiment(tmp_path, wiring=rule, prune_rate=0.9, budget=budget, resume=result["checkpoint"], profile=True)
    )
    assert profiled["profile"]["edges"]["acting"] <= sum(kept)
    assert profiled["profile"]["parameters"] == sum(p.numel() for p in network.parameters()) - sum(possible) + sum(kept)


def test_what_the_thresholds_left_is_told_beside_the_cut(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    of = experiment(tmp_path, wiring="str", prune_rate=0.9, str_decay=0.05, json=str(tmp_path / "all.json"))
    result = run(of)
    edges = result["edges"]
    rules = [graph.wiring for _, graph in graphs(trained(result, of))]
    assert edges["natural"] == sum(rule.natural for rule in rules)
    assert edges["acting"] == sum(rule.kept for rule in rules)
    assert edges["possible"] == sum(rule.layout.possible for rule in rules)
    assert edges["natural"] not in (edges["acting"], edges["possible"])
    assert json.loads((tmp_path / "all.json").read_text())["edges"] == edges
    sparse = [f"{100 * (1 - edges[key] / edges['possible']):.2f} % sparse" for key in ("natural", "acting")]
    line = f"left {edges['natural']} ({sparse[0]}) of {edges['possible']}, cut to {edges['acting']} ({sparse[1]})"
    assert line in capsys.readouterr().out
    assert run(of.but(resume=result["checkpoint"], evaluate=True))["edges"] == edges
    assert line in capsys.readouterr().out
    dnw = experiment(tmp_path, wiring="dnw", prune_rate=0.9, num_steps=1)
    assert run(dnw)["edges"] == {**edges, "natural": None}
    assert "cut to" not in capsys.readouterr().out


@pytest.mark.parametrize("rule", ["rigl", "str", "gradual_magnitude"])
def test_a_resumed_run_ends_where_an_uninterrupted_one_does(tmp_path: Path, rule: str):
    of = experiment(tmp_path, wiring=rule, prune_rate=0.8, checkpoint_interval=1)
    whole = run(of)
    first = Path(whole["checkpoint"]).with_name("epoch_1.pt")
    again = run(of.but(resume=str(first), save_dir=str(tmp_path / "again")))
    one, two = (checkpoints.read(result["checkpoint"])["network"] for result in (whole, again))
    for key, value in one.items():
        assert torch.equal(value, two[key]) if isinstance(value, torch.Tensor) else value == two[key], key


def test_num_steps_ends_within_an_epoch(tmp_path: Path):
    of = experiment(tmp_path)
    result = run(of)
    saved = checkpoints.read(result["checkpoint"])["progress"]
    assert [record["step"] for record in saved["history"]] == [saved["steps_per_epoch"], 17]
    assert saved["history"][-1]["lr"] == 0.01


def test_a_dense_network_starts_a_wired_one(tmp_path: Path):
    dense = run(experiment(tmp_path))
    wired = experiment(tmp_path, wiring="dnw", prune_rate=0.5, resume=dense["checkpoint"], evaluate=True)
    assert run(wired)["top1"] != dense["top1"]
    whole = experiment(tmp_path, wiring="dnw", prune_rate=0.0, resume=dense["checkpoint"], evaluate=True)
    assert run(whole)["top1"] == dense["top1"]
    fixed = experiment(tmp_path, wiring="fine_tune", prune_rate=0.5, use_graph=dense["checkpoint"], num_steps=1)
    network = trained(run(fixed), fixed)
    weights = checkpoints.read(dense["checkpoint"])["network"]
    for name, graph in graphs(network):
        kept = weights[name].flatten()[graph.acting()].abs()
        assert kept.min() >= weights[name].flatten()[~graph.acting()].abs().max()


@pytest.mark.slow
def test_published_weights_bring_their_settings_and_their_error(tmp_path: Path, keras_weights: Path, real_data: Path):
    """Whatever the experiment says, they are evaluated as they were trained; 8.00 % were measured independently."""
    of = experiment(
        tmp_path,
        data="cifar10",
        data_dir=str(real_data),
        verify=False,
        in_channels=3,
        image_size=32,
        test_batch_size=250,
        resume=f"keras:{keras_weights}/cifar_resnet20.tf",
        evaluate=True,
    )
    result = run(of)
    assert 100 - result["top1"] == pytest.approx(8.00, abs=0.05)
    settings = result["settings"]
    assert (settings["depth"], settings["width_mult"], settings["padding"]) == (20, 1.0, "same_tensorflow")
    assert settings["std"] == [0.2023, 0.1994, 0.201]


def test_damaged_published_weights_are_the_users_mistake(tmp_path: Path):
    for source, word in (
        (f"keras:{tmp_path}/absent", "no TensorFlow checkpoint"),
        (f"keras:{tmp_path}/cut", "cut off"),
    ):
        (tmp_path / "cut.index").write_bytes(b"short")
        with pytest.raises(UserError, match=word):
            run(experiment(tmp_path, resume=source, evaluate=True))


def test_a_picture_comes_with_the_profile(tmp_path: Path):
    of = experiment(tmp_path, wiring="dnw", prune_rate=0.5, profile=True, picture=str(tmp_path / "net.svg"))
    run(of)
    assert "wired conv 3x3" in (tmp_path / "net.svg").read_text()
    with pytest.raises(UserError, match=r"ends in \.png or \.svg"):
        of.but(picture="net.gif")
