"""The average of the weights: what it is, which edges act in it, and that it is kept."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric

from genutil.errors import UserError
from genutil.run import run
from genutil.saved import checkpoints
from genutil.training.averages import Average
from models.wirings.rules import graphs
from models.wirings.selection import keep_largest
from tests.genutil.parts import SmallNet, assert_equal, saved, state
from tests.genutil.runs import tiny

pytestmark = pytest.mark.usefixtures("one_thread")

SHORT = {"num_epochs": 2, "only_batches": 2, "checkpoint_interval": 1, "skip_profiling": True, "ema_decay": 0.9}


def move(network: torch.nn.Module) -> None:
    """Stand in for an update."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter))
        network.norm.running_mean.add_(1)
        network.norm.num_batches_tracked.add_(1)


def test_the_average_is_that_of_its_definition() -> None:
    torch.manual_seed(0)
    network = SmallNet()
    average = Average(network, 0.5)
    expected = {name: value.clone() for name, value in state(network).items()}
    for n in range(20):
        move(network)
        average.update()
        decay = min(0.5, (1 + n) / (10 + n))
        for name, value in state(network).items():
            if value.is_floating_point():
                expected[name] = decay * expected[name] + (1 - decay) * value
            else:
                expected[name] = value
    for name, value in state(average.settled()).items():
        torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-6, msg=name)
    assert average.updates == 20
    assert not any(parameter.requires_grad for parameter in average.network.parameters())


def test_the_strongest_edges_of_the_average_act_in_it() -> None:
    torch.manual_seed(0)
    network = SmallNet("dnw")
    average = Average(network, 0.9)
    for _ in range(3):
        move(network)
        average.update()
    ((_, own),), ((_, theirs),) = list(graphs(average.settled())), list(graphs(network.eval()))
    assert torch.equal(own.acting(), keep_largest(own.weight, own.wiring.kept))
    assert not torch.equal(own.acting(), theirs.acting())


def test_a_mask_that_a_rule_keeps_is_that_of_the_network() -> None:
    torch.manual_seed(0)
    network = SmallNet("rigl")
    average = Average(network, 0.9)
    network.graph.wiring.mask.copy_(network.graph.wiring.mask.roll(1))
    average.update()
    assert torch.equal(average.settled().graph.acting(), network.graph.acting())


def test_an_average_goes_on_bit_for_bit_and_is_evaluated(tmp_path: Path) -> None:
    whole = run(tiny(tmp_path / "whole", **SHORT))
    end = checkpoints.read(whole["checkpoint"])
    first = tmp_path / "whole" / "checkpoints" / "tiny" / "epoch_1.pt"
    resumed = run(tiny(tmp_path / "resumed", resume=str(first), **SHORT))
    again = checkpoints.read(resumed["checkpoint"])
    tensors = [
        {name: value for name, value in checkpoint["average"]["network"].items() if isinstance(value, torch.Tensor)}
        for checkpoint in (end, again)
    ]
    assert_equal(*tensors)
    assert end["average"]["updates"] == again["average"]["updates"] == 4
    assert any(not torch.equal(value, end["network"][name]) for name, value in tensors[0].items())
    assert whole["average"] == resumed["average"]
    record = end["progress"]["history"][-1]
    assert record["average_loss"] == pytest.approx(whole["average"]["loss"], abs=1e-12)

    options = {"resume": whole["checkpoint"], "evaluate": True, "only_batches": 2, "skip_profiling": True}
    evaluated = run(tiny(tmp_path, averaged=True, **options))
    assert {key: evaluated[key] for key in ("top1", "top5", "loss")} == pytest.approx(whole["average"], abs=1e-12)
    assert run(tiny(tmp_path, **options))["loss"] == pytest.approx(whole["loss"], abs=1e-12)


def test_a_checkpoint_without_an_average_says_so(tmp_path: Path) -> None:
    settings = {**SHORT, "ema_decay": None, "num_epochs": 1}
    plain = run(tiny(tmp_path, **settings))
    assert plain["average"] is None
    with pytest.raises(UserError, match=r"last\.pt holds no averaged weights: it was trained without ema_decay"):
        run(tiny(tmp_path, resume=plain["checkpoint"], evaluate=True, averaged=True))
    average = run(tiny(tmp_path, resume=plain["checkpoint"], **SHORT))[
        "average"
    ]  # it starts where it is first asked for
    assert average is not None


@pytest.mark.parametrize("odd", [None, [], {}, {"network": {}}, {"network": [], "updates": 1}], ids=str)
def test_an_odd_average_is_told(tmp_path: Path, odd: object) -> None:
    path = saved(tmp_path / "last.pt", Fabric(accelerator="cpu", devices=1))
    contents = torch.load(path, weights_only=True)
    torch.save({**contents, "average": odd}, path)
    with pytest.raises(UserError, match=r"last\.pt is damaged: its average is of no kind that this program writes"):
        checkpoints.read(path)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"averaged": True}, "it needs resume or init_from"),
        ({"averaged": True, "resume": "last.pt"}, "init_from starts a training from such weights"),
        ({"ema_decay": 1.0}, "ema_decay must be"),
    ],
)
def test_impossible_wishes_are_refused(tmp_path: Path, settings: dict, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        tiny(tmp_path, **settings)
