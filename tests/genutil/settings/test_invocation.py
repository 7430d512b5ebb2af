"""What to do, and on which machine: settings that do not fit one another are refused in a sentence."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from genutil.settings.invocation import Invocation, Machine


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"gpus": [0, 1, 0]}, "gpus names one twice"),
        ({"gpus": [0], "devices": 2}, "give it or gpus, not both"),
        ({"strategy": "dp", "num_nodes": 2}, "dp works on one machine"),
        ({"devices": 1025}, "1024"),
        ({"threads": 100000}, "1024"),
        ({"decode": "tpu"}, "'cpu' or 'gpu'"),
    ],
)
def test_machines_that_cannot_be(settings: dict[str, object], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        Machine(**settings)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"picture": "net.pdf"}, r"ends in \.png or \.svg, not net\.pdf"),
        ({"micronet": "imagenet", "skip_profiling": True}, "leave out skip_profiling"),
        ({"use_dgl": True, "engine": "native"}, "give one of them"),
        ({"results_dir": "results", "profile": True}, "profile does not train"),
        ({"results_dir": "results", "fast_eval": True}, "leave out fast_eval"),
        ({"results_dir": "results", "only_batches": 3}, "only_batches tries one out"),
        ({"resume": "last.pt", "init_from": "best.pt"}, "give one of them"),
    ],
)
def test_what_cannot_be_done_together(settings: dict[str, object], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        Invocation(**settings)


def test_what_fits_together() -> None:
    assert Machine(gpus=[1, 0]).gpus == [1, 0]
    assert Invocation(resume="auto", init_from="best.pt").resume == "auto"
    assert Invocation(micronet="cifar100", profile=True, skip_profiling=True).micronet == "cifar100"
    assert Invocation(use_dgl=True, engine="dgl").use_dgl
