"""What may change when a checkpoint is resumed: every key, and what acts then is what is recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from genutil.build import build_network
from genutil.config import RUN_KEYS, SELF_WIRED_NETWORKS, Experiment
from genutil.errors import UserError
from genutil.run import run
from genutil.saved import checkpoints
from genutil.settings import resuming
from genutil.settings.resuming import Fate, fates
from models.wirings.graph import graphs
from models.wirings.registry import WIRINGS
from tests.genutil.runs import tiny, weights
from tests.structure import ROOT

pytestmark = pytest.mark.usefixtures("one_thread")

SHORT = {"num_epochs": 1, "only_batches": 4, "skip_profiling": True, "optimizer": "sgd"}
FOLLOWING = {"dnw", "dnw_no_update", "dnw_near", "td", "reg_td", "gradual_magnitude", "str"}
"""Rules whose edges follow another prune rate."""


def test_every_key_of_a_checkpoint_has_its_fate() -> None:
    assert set(fates()) == RUN_KEYS
    for section, (_, others) in resuming.TABLE.items():
        named = [key for keys in others.values() for key in keys]
        assert len(named) == len(set(named))
        assert set(named) <= set(section.model_fields)


def test_the_page_has_the_table() -> None:
    assert resuming.markdown() in (ROOT / "docs" / "experiments.md").read_text()


def trained(folder: Path, rule: str, **settings: Any) -> Path:
    """A checkpoint in the middle of a training of the tiny classifier under a rule, at a prune rate of 0.7."""
    if rule == "fine_tune":
        settings["use_graph"] = run(tiny(folder / "complete", wiring="complete", prune_rate=0.0, **SHORT))["checkpoint"]
    return Path(run(tiny(folder, wiring=rule, **{**SHORT, **settings}))["checkpoint"])


def acting(checkpoint: str | Path, rule: str, **settings: Any) -> int:
    """The edges that act in the network of a checkpoint."""
    network = build_network(tiny(Path(), wiring=rule, evaluate=True, **settings))
    network.load_state_dict(checkpoints.read(checkpoint)["network"])
    network.eval()
    return sum(int(graph.acting().count_nonzero()) for _, graph in graphs(network))


def budget(rule: str, prune_rate: float) -> int:
    """The edges that a rule keeps."""
    network = build_network(tiny(Path(), wiring=rule, evaluate=True, prune_rate=prune_rate))
    return sum(graph.wiring.kept for _, graph in graphs(network))


@pytest.mark.parametrize("rule", WIRINGS)
def test_the_edges_that_act_are_those_of_the_recorded_rate(rule: str, tmp_path: Path) -> None:
    last = trained(tmp_path, rule)
    longer: dict[str, Any] = {**SHORT, "num_epochs": 2, "resume": str(last), "prune_rate": 0.5}
    if rule in FOLLOWING:
        found = run(tiny(tmp_path, wiring=rule, **longer))
        recorded = checkpoints.read(found["checkpoint"])["settings"]["prune_rate"]
        assert recorded == 0.5
        assert found["edges"]["acting"] == acting(found["checkpoint"], rule, prune_rate=0.5) == budget(rule, 0.5)
        assert budget(rule, 0.5) > budget(rule, 0.7)
    elif rule == "complete":
        found = run(tiny(tmp_path, wiring=rule, **longer))
        assert found["edges"]["acting"] == found["edges"]["possible"]
    else:
        with pytest.raises(UserError, match=rf"^prune_rate is 0.7 in .* and 0.5 here: {rule} keeps the edges that it"):
            run(tiny(tmp_path, wiring=rule, **longer))
        with pytest.raises(UserError, match=rf"{rule} keeps the edges"):
            run(Experiment.from_saved(checkpoints.read(last)["settings"], {**longer, "gpus": []}))
        assert acting(last, rule) == budget(rule, 0.7)


def test_gradual_magnitude_whose_changes_are_over_refuses_another_rate(tmp_path: Path) -> None:
    last = trained(tmp_path, "gradual_magnitude", wiring_end=0.2)
    with pytest.raises(UserError, match="gradual_magnitude keeps the edges that it has now"):
        run(tiny(tmp_path, wiring="gradual_magnitude", wiring_end=0.2, resume=str(last), prune_rate=0.5, num_epochs=2))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({}, "training has no steps left"),
        ({"evaluate": True}, r"an evaluation or a profile is of what was trained\.$"),
        ({"profile": True}, r"an evaluation or a profile is of what was trained\.$"),
    ],
)
def test_a_rate_that_cannot_take_effect_is_refused(tmp_path: Path, change: dict[str, Any], sentence: str) -> None:
    last = trained(tmp_path, "dnw")
    with pytest.raises(UserError, match=rf"^prune_rate is 0.7 in .*last\.pt and 0.5 here: {sentence}"):
        run(tiny(tmp_path, **SHORT, resume=str(last), prune_rate=0.5, **change))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of the tiny classifier, trained with momentum."""
    return trained(tmp_path_factory.mktemp("plain"), "dnw")


OTHER: dict[str, Any] = {
    "wiring": "td",
    "budget": "erk",
    "dense_layers": ["fc"],
    "layers": 5,
    "relu_in_place": False,
    "padding": "same_tensorflow",
    "use_init": None,
    "str_initial": -5.0,
    "optimizer": "adam",
    "decay_norm_and_bias": False,
    "graph_seed": 3,
    "stages": 3,
}
"""Other values than those of the checkpoint."""


@pytest.mark.parametrize("key", [key for key, fate in fates().items() if fate in (Fate.FIXED, Fate.BEGINNING)])
def test_what_is_fixed_is_refused_by_name(key: str) -> None:
    saved = Experiment()
    changed = saved.model_copy(update={key: OTHER.get(key, "other")})
    if getattr(changed, key) == getattr(saved, key):
        changed = saved.model_copy(update={key: "other"})
    wired = {"wiring": "dnw"} if key in ("budget", "dense_layers") else {}
    first, second = saved.model_copy(update=wired), changed.model_copy(update=wired | {key: getattr(changed, key)})
    with pytest.raises(UserError, match=rf"^{key} (is .* in last\.pt and .* here|differs): training goes on"):
        resuming.check(second, first, "last.pt")
    evaluated = [each.model_copy(update={"evaluate": True}) for each in (second, first)]
    if fates()[key] is Fate.BEGINNING:
        resuming.check(*evaluated, "last.pt")
    elif key not in ("wiring",):
        with pytest.raises(UserError, match=rf"^{key} "):
            resuming.check(*evaluated, "last.pt")


OPTIMIZERS: dict[str, dict[str, Any]] = {
    "sgd": {"optimizer": "sgd"},
    "plain sgd": {"optimizer": "sgd", "momentum": 0.0},
    "adam": {"optimizer": "adam"},
    "rmsprop": {"optimizer": "rmsprop"},
    "plain rmsprop": {"optimizer": "rmsprop", "momentum": 0.0},
}


@pytest.mark.parametrize("first", OPTIMIZERS)
def test_the_state_of_another_optimizer_is_not_taken_over(first: str, tmp_path: Path) -> None:
    rate = {"lr": 0.001}
    last = run(tiny(tmp_path, **{**SHORT, **rate, **OPTIMIZERS[first]}))["checkpoint"]
    for second, settings in OPTIMIZERS.items():
        again = {**SHORT, **rate, **settings, "num_epochs": 2, "resume": last, "save_dir": str(tmp_path / second)}
        if first == second:
            assert run(tiny(tmp_path, **again))["loss"] > 0
            continue
        sentence = "^optimizer is" if first.split()[-1] != second.split()[-1] else "^The optimizer of .* is another one"
        with pytest.raises(UserError, match=sentence):
            run(tiny(tmp_path, **again))
        assert not (tmp_path / second).exists()


def test_what_acts_from_there_on_acts(plain: Path, tmp_path: Path) -> None:
    again = {**SHORT, "num_epochs": 2, "resume": str(plain)}
    base = run(tiny(tmp_path / "a", **again))["checkpoint"]
    for number, change in enumerate(({"lr": 0.01}, {"momentum": 0.5}, {"weight_decay": 0.1}, {"seed": 4})):
        found = run(tiny(tmp_path / str(number), **{**again, **change}))["checkpoint"]
        (key, value), *_ = change.items()
        assert checkpoints.read(found)["settings"][key] == value
        assert not weights(found)["fc.weight"].equal(weights(base)["fc.weight"]), key


def test_weights_of_a_dense_network_may_be_evaluated_under_a_rule(tmp_path: Path) -> None:
    settings = {"model": "resnet", "depth": 8, "width_mult": 0.25, "image_size": 8, **SHORT}
    last = run(tiny(tmp_path, **{**settings, "wiring": "complete", "prune_rate": 0.0}))["checkpoint"]
    found = run(tiny(tmp_path, **{**settings, "wiring": "dnw", "prune_rate": 0.9}, resume=last, evaluate=True))
    assert "resnet" not in SELF_WIRED_NETWORKS
    assert found["edges"]["acting"] < 0.11 * found["edges"]["possible"]
