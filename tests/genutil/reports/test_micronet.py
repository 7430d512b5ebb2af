from __future__ import annotations

import json
from pathlib import Path

import pytest

import runner
from genutil.reports import micronet
from genutil.reports.micronet_counts import Count
from models.networks.mobilenetv1_like import MobileNetV1Like
from models.wirings.rules import graphs


@pytest.mark.parametrize(
    ("task", "storage", "operations"), [("imagenet", 6.9e6, 1170e6), ("cifar100", 36.5e6, 10.49e9)]
)
def test_a_baseline_scores_two_and_one_at_the_free_16_bits(task: str, storage: float, operations: float):
    count = Count(values=int(storage), multiplications=int(operations // 2), additions=int(operations // 2))
    score = micronet.Score(task, count)
    assert score.value(32) == pytest.approx(2)
    assert score.value(16) == pytest.approx(1)


def test_bitmasks_stay_bits_at_16_bits():
    score = micronet.Score("imagenet", Count(values=690_000, bitmask_bits=32 * 690_000))
    assert score.value(32) == pytest.approx(0.2)
    assert score.value(16) == pytest.approx(0.15)


def test_published_networks_score_what_their_numbers_say():
    found = {entry.name: entry for entry in micronet.published()}
    assert found["ShuffleNetV2 x1"].score(32) == pytest.approx(2.3 / 6.9 + 2 * 146 / 1170)
    assert found["MobileNetV1 x0.25"].score(16) == pytest.approx((0.5 / 6.9 + 82 / 1170) / 2)
    network = MobileNetV1Like(1000, 224, "dnw", 0.775)
    possible = sum(graph.layout.possible for _, graph in graphs(network))
    assert found["dnw_x225"].possible == possible
    assert found["dnw_x225"].score(32) == pytest.approx((1.1 + possible / 32e6) / 6.9 + 2 * 42.1 / 1170)
    assert found["dnw_small_x15"].possible == possible + 1024 * 1000
    assert len(found) == 11


WORDS = ["app:quickstart", "--dim", "60", "--downsample_dim", "12", "--feature_dim", "12", "--layers", "4"]


@pytest.mark.parametrize("task", ["imagenet", "cifar100"])
def test_the_profile_tells_it_on_request(task: str, tmp_path: Path, capsys: pytest.CaptureFixture):
    path = tmp_path / "told.json"
    assert runner.main([*WORDS, "--gpus", "[]", "--profile", "--micronet", task, "--json", str(path)]) == 0
    out = capsys.readouterr().out
    told = json.loads(path.read_text())["micronet"]
    assert told["task"] == task
    line = next(line for line in out.splitlines() if line.startswith("score"))
    assert [float(word) for word in line.split()[1:]] == [
        pytest.approx(told["bits"][bits]["score"], abs=1e-4) for bits in ("32", "16")
    ]
    assert ("dnw_x225 (60.9 %)" in out) == (task == "imagenet")
    for name in ("values", "bitmasks", "norms and biases", "multiplications", "additions"):
        assert f"\n{name} " in out
    assert told["bits"]["32"]["operations"] == told["multiplications"] + told["additions"]


def test_without_request_it_is_not_told(tmp_path: Path, capsys: pytest.CaptureFixture):
    path = tmp_path / "told.json"
    assert runner.main([*WORDS, "--gpus", "[]", "--profile", "--json", str(path)]) == 0
    assert "MicroNet" not in capsys.readouterr().out
    assert "micronet" not in json.loads(path.read_text())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--profile", "--micronet", "wikitext"], "micronet must be"),
        (["--skip_profiling", "--micronet", "imagenet"], "leave out skip_profiling"),
        (["--profile", "--micronet", "cifar100", "--model", "continuous_time"], "depend on the image"),
    ],
)
def test_what_cannot_be_told(words: list[str], message: str, capsys: pytest.CaptureFixture):
    base = WORDS[:-2] if "continuous_time" in words else WORDS
    assert runner.main([*base, "--gpus", "[]", *words]) == 2
    assert message in capsys.readouterr().err
