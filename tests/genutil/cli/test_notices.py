"""A key that has no effect in a run is told, and no other."""

from __future__ import annotations

from pathlib import Path

import pytest

from genutil.cli import notices
from genutil.cli.command_line import parse, resolve
from genutil.config import Experiment
from genutil.settings.app_files import app_name, experiments
from tests.genutil.parts import settings_alone


def told(words: list[str], capsys: pytest.CaptureFixture[str]) -> list[str]:
    line = parse(words)
    notices.tell(resolve(line, {}), line)
    return capsys.readouterr().err.splitlines()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--num_epochs", "3", "--num_steps", "9"], ["--num_epochs has no effect: num_steps is 9."]),
        (["--optimizer", "adam", "--momentum", "0.5"], ["--momentum has no effect: optimizer is adam."]),
        (["--multistep_lr_gamma", "0.5"], ["--multistep_lr_gamma has no effect: lr_scheduler is cosine."]),
        (["--depth", "20"], ["--depth has no effect: static takes none."]),
        (["--graph_seed", "20"], ["--graph_seed has no effect: static has no random stages."]),
        (["--wiring", "complete", "--prune_rate", "0.5"], ["--prune_rate has no effect: wiring is complete."]),
        (["--engine", "native"], ["--engine has no effect: it is for fast_eval."]),
        (["--profile", "--lr", "3"], ["--lr has no effect: a profile trains nothing."]),
        (
            ["--lr_scheduler", "steps", "--lr_values", "1", "--lr", "3"],
            ["--lr has no effect: lr_scheduler is"],
        ),
        (["--lr", "3", "--seed", "5", "--prune_rate", "0.5", "--dim", "60", "--augment"], []),
        (["--momentum", "0.9", "--optimizer", "adam"], []),
    ],
)
def test_a_key_without_effect_is_told(
    words: list[str], expected: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    found = told(["app:quickstart", "--nesterov", "false", *words], capsys)
    assert len(found) == len(expected)
    assert all(line.startswith(start) for line, start in zip(found, expected, strict=True))


def test_keys_of_the_training_are_told_where_a_checkpoint_is_evaluated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = settings_alone(tmp_path / "last.pt", Experiment(model="static").to_saved())
    words = ["--resume", str(path), "--evaluate"]
    for given in (["--lr", "3"], ["--name", "other"], ["--optimizer", "adam"], ["--rho", "0.3", "--wiring", "td"]):
        (line,) = told([*words, *given], capsys)
        assert line == f"{given[0]} has no effect: nothing is trained, and the checkpoint has its own."
    assert told([*words, "--batch_size", "7", "--image_size", "16", "--precision", "bf16"], capsys) == []


def test_a_key_of_the_file_itself_is_told_and_not_one_of_its_base(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "base.yml").write_text("model: static\nexp_decaying_lr_gamma: 0.5\n")
    (tmp_path / "a.yml").write_text("base: base.yml\ndepth: 20\nlr: 3\n")
    (line,) = told([f"app:{tmp_path}/a.yml"], capsys)
    assert line == f"depth (in {tmp_path}/a.yml) has no effect: static takes none."


@pytest.mark.parametrize("rank", ["0", "1"])
def test_one_of_several_processes_tells(
    rank: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", rank)
    assert len(told(["app:quickstart", "--depth", "20"], capsys)) == (rank == "0")


def test_no_app_of_the_project_states_a_key_without_effect(capsys: pytest.CaptureFixture[str]) -> None:
    found = {app_name(path): told([f"app:{app_name(path)}"], capsys) for path in experiments()}
    assert {name: lines for name, lines in found.items() if lines} == {}
