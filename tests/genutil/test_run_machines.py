"""A job of two machines, one of which loses its power and is replaced."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from genutil.run import run
from genutil.saved import checkpoints
from tests.genutil.machines import Machine, two_machines, wait_until
from tests.genutil.parts import assert_equal
from tests.genutil.runs import command, tiny, weights

EPOCHS = 12


@pytest.fixture
def machines() -> Iterator[tuple[Machine, Machine]]:
    try:
        with two_machines() as both:
            yield both
    except RuntimeError as error:
        pytest.skip(f"needs network namespaces, which cannot be made here: {error}")


@pytest.mark.slow
def test_a_job_goes_on_where_a_machine_was_lost(tmp_path: Path, machines: tuple[Machine, Machine]) -> None:
    first, second = machines
    words = command(tmp_path, num_epochs=EPOCHS, resume="auto", skip_profiling=True)[1:]
    words = [word for word in words if word not in ("--gpus", "[]")]
    logs = [tmp_path / f"{name}.log" for name in ("first", "second", "replaced")]
    last = tmp_path / "checkpoints" / "tiny" / "last.pt"
    agents = [machine.start(words, log, first.address) for machine, log in zip(machines, logs, strict=False)]
    wait_until(lambda: last.exists() and checkpoints.read(last)["progress"]["epoch"] >= 2, agents)
    second.kill()
    assert agents[1].wait(60) != 0
    reached = checkpoints.read(last)["progress"]["epoch"]
    assert 2 <= reached < EPOCHS - 1, "the job was over before the machine was lost"
    replaced = second.start(words, logs[2], first.address)
    for agent in (agents[0], replaced):
        assert agent.wait(400) == 0, "\n".join(log.read_text()[-3000:] for log in logs)
    whole = run(tiny(tmp_path / "whole", devices=2, gpus=None, num_epochs=EPOCHS, skip_profiling=True))
    assert checkpoints.read(last)["progress"]["epoch"] == EPOCHS
    assert_equal(weights(last), weights(whole["checkpoint"]))
    epochs = [record["epoch"] for record in checkpoints.read(last)["progress"]["history"]]
    assert epochs == list(range(1, EPOCHS + 1))
