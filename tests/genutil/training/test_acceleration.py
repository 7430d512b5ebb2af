"""Each way to compute faster trains, saves under the names of the plain network, and goes on bit for bit on the CPU."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric

from genutil.config import Experiment
from genutil.errors import UserError
from genutil.run import run
from genutil.saved import checkpoints
from genutil.training import acceleration
from genutil.training.acceleration import accelerated, lay_out, wants_channels_last
from genutil.training.optimizers import make_optimizer
from models.wirings.graph import graphs
from models.wirings.wire import wire
from tests.genutil.parts import SmallNet, assert_equal
from tests.genutil.runs import tiny, weights

pytestmark = pytest.mark.usefixtures("one_thread")

SHORT = {"num_epochs": 2, "only_batches": 2, "checkpoint_interval": 1, "skip_profiling": True}
RESNET = {"model": "resnet", "depth": 8, "wiring": "complete", "prune_rate": 0, "batch_size": 32}
KEYS = [
    {"precision": "bf16"},
    {"precision": "64"},
    {"matmul_precision": "medium"},
    {"channels_last": False, **RESNET},
    {"fused": True},
    {"fused": True, "optimizer": "adam", "lr": 0.001},
    {"accumulate": 3},
    {"lr_batch_size": 512},
]


def resume(folder: Path, whole: Path, **settings) -> dict[str, torch.Tensor]:
    """The last weights of a run that goes on from the end of the first epoch of another."""
    first = whole / "checkpoints" / "tiny" / "epoch_1.pt"
    return weights(run(tiny(folder, resume=str(first), **{**SHORT, **settings}))["checkpoint"])


@pytest.mark.parametrize("settings", KEYS, ids=lambda settings: "-".join(map(str, next(iter(settings.items())))))
def test_trains_saves_and_goes_on(tmp_path: Path, settings: dict) -> None:
    results = run(tiny(tmp_path / "whole", **{**SHORT, **settings}))
    whole = weights(results["checkpoint"])
    assert_equal(resume(tmp_path / "resumed", tmp_path / "whole", **settings), whole)
    key = next(iter(settings))
    plain = resume(tmp_path / "plain", tmp_path / "whole", **{**settings, key: Experiment().to_dict()[key]})
    assert plain.keys() == whole.keys()
    assert all(value.isfinite().all() for value in plain.values())


@pytest.mark.slow
def test_a_run_goes_on_compiled_and_then_not_again(tmp_path: Path) -> None:
    wired = {**SHORT, **RESNET, "wiring": "dnw", "prune_rate": 0.8, "lr_scheduler": "constant"}
    plain = weights(run(tiny(tmp_path / "plain", **{**wired, "num_epochs": 3}))["checkpoint"])
    first = tmp_path / "plain" / "checkpoints" / "tiny" / "epoch_1.pt"
    compiled = run(tiny(tmp_path / "compiled", resume=str(first), **wired, compile=True))["checkpoint"]
    assert checkpoints.read(compiled)["progress"]["epoch"] == 2
    assert weights(compiled).keys() == plain.keys()
    last = run(tiny(tmp_path / "last", resume=compiled, **{**wired, "num_epochs": 3}, compile=False))["checkpoint"]
    for name, value in plain.items():
        torch.testing.assert_close(weights(last)[name], value, rtol=1e-3, atol=1e-4, msg=name)


def test_only_kernels_of_several_channels_and_pixels_are_laid_out_anew() -> None:
    kernels = [(8, 3, 3, 3), (8, 1, 3, 3), (8, 3, 1, 1), (8, 3, 1, 2)]
    network = torch.nn.ParameterList([torch.randn(shape) for shape in kernels])
    before = [weight.clone() for weight in network]
    lay_out(network, Experiment(channels_last=False), torch.device("cpu"))
    assert all(weight.is_contiguous() for weight in network)
    lay_out(network, Experiment(channels_last=True), torch.device("cpu"))
    assert [weight.stride() for weight in network] == [(27, 1, 9, 3), (9, 9, 3, 1), (3, 1, 1, 1), (6, 1, 6, 3)]
    assert all(map(torch.equal, network, before))


def test_layers_under_a_rule_keep_their_full_weights_as_one_vector() -> None:
    network = wire(torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.Conv2d(8, 8, 1)), "dnw", 0.5)
    lay_out(network, Experiment(channels_last=True), torch.device("cpu"))
    assert all(weight.is_contiguous() for weight in network.parameters())
    assert network(torch.randn(2, 3, 9, 9)).is_contiguous(memory_format=torch.channels_last)
    network.eval()
    chosen = []
    wiring = next(graph.wiring for _, graph in graphs(network))
    wiring.choose = lambda weight, k: chosen.append(k) or type(wiring).choose(wiring, weight, k)
    for _ in range(3):
        network(torch.randn(2, 3, 9, 9))
    assert len(chosen) == 1


def test_nothing_but_a_compiled_network_is_wrapped() -> None:
    network = SmallNet()
    assert accelerated(Fabric(accelerator="cpu", devices=1), network, Experiment()) is network


@pytest.mark.parametrize(
    "more",
    [
        {"optimizer": "sgd", "ema_decay": 0.9},
        {"optimizer": "adam"},
        {"optimizer": "rmsprop"},
        {"wiring": "dnw", "prune_rate": 0.5},
        {"wiring": "str"},
    ],
    ids=lambda more: "-".join(map(str, next(iter(more.items())))) + str(len(more)),
)
@pytest.mark.parametrize("before", [True, False])
def test_a_run_goes_on_alike_in_the_other_memory_format(tmp_path: Path, before: bool, more: dict) -> None:
    settings = {**SHORT, **RESNET, "precision": "64", "lr": 0.01, **more}
    run(tiny(tmp_path / "whole", **settings, channels_last=before))
    same = resume(tmp_path / "same", tmp_path / "whole", **settings, channels_last=before)
    other = resume(tmp_path / "other", tmp_path / "whole", **settings, channels_last=not before)
    for name, value in same.items():
        torch.testing.assert_close(other[name], value, rtol=1e-9, atol=1e-12, msg=name)


@pytest.mark.parametrize("channels_last", [True, False])
def test_training_and_evaluation_have_the_same_layout(tmp_path: Path, channels_last: bool) -> None:
    settings = {**SHORT, **RESNET, "channels_last": channels_last}
    trained = run(tiny(tmp_path, **settings))
    evaluated = run(tiny(tmp_path, **settings, resume=trained["checkpoint"], evaluate=True))
    assert evaluated["loss"] == trained["loss"]


@pytest.mark.parametrize(
    ("settings", "device", "wanted"),
    [
        ({}, "cpu", True),
        ({"precision": "bf16"}, "cpu", True),
        ({"channels_last": False}, "cpu", False),
        ({}, "cuda", False),
        ({"precision": "bf16"}, "cuda", True),
        ({"precision": "16"}, "cuda", True),
        ({"precision": "16", "channels_last": False}, "cuda", False),
        ({"channels_last": True}, "cuda", True),
    ],
)
def test_channels_come_last_where_that_pays(settings: dict, device: str, wanted: bool) -> None:
    assert wants_channels_last(Experiment(**settings), torch.device(device)) == wanted


def test_compile_without_a_compiler_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acceleration.shutil, "which", lambda _: None)
    with pytest.raises(UserError, match=r"compile needs a C\+\+ compiler on the CPU, and there is none"):
        accelerated(Fabric(accelerator="cpu", devices=1), SmallNet(), Experiment(compile=True))


@pytest.mark.parametrize(
    ("settings", "fused"), [({}, True), ({"fused": True}, True), ({"fused": False}, False)], ids=str
)
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_the_optimizer_is_fused_where_asked_for(optimizer: str, settings: dict, fused: bool | None) -> None:
    made = make_optimizer(Experiment(optimizer=optimizer, **settings), SmallNet())
    assert made.defaults["fused"] == fused


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"fused": True, "optimizer": "rmsprop"}, "no fused kernels for optimizer: rmsprop"),
        ({"fused": True, "precision": "16", "clip_grad_norm": 1.0}, "leave out fused or clip_grad_norm"),
        ({"precision": "64", "evaluate": True, "resume": "last.pt", "fast_eval": True}, "give precision: 32"),
        ({"precision": "8"}, "precision must be"),
        ({"accumulate": 0}, "accumulate must be"),
        ({"lr_batch_size": 0}, "lr_batch_size must be"),
    ],
)
def test_impossible_wishes_are_refused(tmp_path: Path, settings: dict, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        tiny(tmp_path, **settings)


@pytest.mark.parametrize(("word", "meant"), [("32-true", "32"), ("64-true", "64"), ("bf16-mixed", "bf16"), (16, "16")])
def test_the_names_of_fabric_are_understood(word: str | int, meant: str) -> None:
    assert Experiment.from_settings({"precision": word}).precision == meant


def test_a_checkpoint_of_one_kernel_goes_on_with_the_other(tmp_path: Path) -> None:
    """Adam counts its updates where its kernel wants them."""
    settings = {"optimizer": "adam", "lr": 0.001}
    results = run(tiny(tmp_path / "whole", **SHORT, **settings, fused=False))
    saved = checkpoints.read(results["checkpoint"])["optimizer"]["param_groups"]
    assert [group["fused"] for group in saved] == [False]
    fused = resume(tmp_path / "fused", tmp_path / "whole", fused=True, **settings)
    for name, value in weights(results["checkpoint"]).items():
        torch.testing.assert_close(fused[name], value, rtol=1e-4, atol=1e-5)
