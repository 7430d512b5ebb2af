"""The benchmark of settings of a step: both ways in processes of their own, in turns."""

from __future__ import annotations

import json
import sys

import pytest
import torch

from benchmarks import step_settings


@pytest.mark.slow
@pytest.mark.parametrize("key", step_settings.KEYS)
def test_both_ways_are_measured(key, monkeypatch, tmp_path, capsys) -> None:
    path = tmp_path / "settings.json"
    words = [key, "--only", "resnet20", "--repeats", "1", "--steps", "3", "--threads", "1", "--json", str(path)]
    monkeypatch.setattr(sys, "argv", ["step_settings.py", *words])
    step_settings.main()
    (row,) = json.loads(path.read_text())["rows"]
    assert row["experiment"] == "cifar/resnet20_v1"
    for way in ("on", "off"):
        (found,) = row[way]
        assert found["milliseconds"] > 0
        assert found["mebibytes"] > 100
    assert row["ratio"]["min"] == row["off"][0]["milliseconds"] / row["on"][0]["milliseconds"]
    assert "resnet20 " in capsys.readouterr().out


@pytest.mark.parametrize("on", [True, False])
@pytest.mark.parametrize("key", step_settings.KEYS)
def test_a_step_has_the_setting(key: str, on: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {}

    class SeenError(RuntimeError):
        pass

    def first_step(experiment, network):
        weight = next(module.weight for module in network.modules() if isinstance(module, torch.nn.Conv2d))
        seen["channels_last"] = weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous()
        seen["keep_memory"] = experiment.keep_memory
        raise SeenError

    monkeypatch.setattr(step_settings, "make_optimizer", first_step)
    with pytest.raises(SeenError):
        step_settings.step_times("resnet20", key, on, steps=3, threads=torch.get_num_threads())
    assert seen == {"channels_last": True, "keep_memory": True, key: on}


def test_too_few_steps_are_refused(monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["step_settings.py", "keep_memory", "--steps", "2"])
    with pytest.raises(SystemExit):
        step_settings.main()
    assert "at least 3 steps" in capsys.readouterr().err
