"""Plain words that YAML reads as something else, and files made to cost much."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import yaml

from genutil.config import Experiment
from genutil.errors import UserError
from genutil.settings import app_files, yaml_files


def read(folder: Path, text: str) -> dict[str, Any]:
    path = folder / "a.yml"
    path.write_text(text)
    return app_files.read(path).settings


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("name: no", 'states name: no (line 2), which YAML reads as true or false: write "no", in quotes'),
        ("name: Off", "reads as true or false"),
        ("wiring: yes", "reads as true or false"),
        ("seed: 010", "states seed: 010 (line 2), which YAML reads as the number 8"),
        ("lr_boundaries: [5, 0_17]", "states lr_boundaries: 0_17 (line 2), which YAML reads as the number 15"),
        ("name: 1:30", "reads as a number to the base of 60"),
        ("lr: 1:30.5", "reads as a number to the base of 60"),
        ("name: 2026-01-01", "reads as a date"),
        ("experiment: 2001-12-14 21:59:43.10 -5", "reads as a date"),
        ("train-records: on", "reads as true or false"),
    ],
)
def test_a_word_that_yaml_changes_is_refused(tmp_path: Path, line: str, sentence: str) -> None:
    with pytest.raises(UserError) as raised:
        read(tmp_path, f"# a file\n{line}\n")
    assert sentence in str(raised.value)
    assert str(raised.value).endswith("in quotes, if text is meant.")


@pytest.mark.parametrize("word", ["no", "010", "1:30", "2026-01-01", "on"])
def test_a_quoted_word_is_itself(tmp_path: Path, word: str) -> None:
    assert read(tmp_path, f'name: "{word}"')["name"] == word
    assert read(tmp_path, yaml.safe_dump({"name": word})) == {"name": word}


def test_switches_and_plain_numbers_are_read_as_before(tmp_path: Path) -> None:
    text = (
        "nesterov: yes\nverify: off\nseed: 0\nlr: 0.5\nnum_epochs: 10\npicture: false\nname: null\nbatch_size: 1_000\n"
    )
    experiment = Experiment.from_settings(read(tmp_path, text))
    assert (experiment.nesterov, experiment.verify, experiment.picture, experiment.name) == (True, False, None, None)
    assert (experiment.seed, experiment.lr, experiment.batch_size) == (0, 0.5, 1000)


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{key}: &{key} [{', '.join([f'*{before}'] * 9)}]\n" for before, key in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize("text", [BOMB, BOMB + "name: *i\n", "lr: &a [*a]\n", "x: &x {y: *x}\n"])
def test_aliases_cost_neither_memory_nor_time(tmp_path: Path, text: str) -> None:
    tracemalloc.start()
    with pytest.raises(UserError, match=r"a\.yml is refused: (with its aliases|a value holds itself)"):
        read(tmp_path, text)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10_000_000


def test_a_few_aliases_are_fine(tmp_path: Path) -> None:
    assert read(tmp_path, "lr_values: &v [1, 2]\nlr_boundaries: *v\n") == {"lr_values": [1, 2], "lr_boundaries": [1, 2]}


@pytest.mark.parametrize(
    "text",
    ["a: [" * 5000, "lr: !!python/object/apply:os.getcwd []", "lr: [", "\x00", "seed: " + "9" * 5000, "? [1]\n: 2"],
)
def test_broken_files_are_told(tmp_path: Path, text: str) -> None:
    with pytest.raises(UserError, match=r"a\.yml is not valid YAML|is not a setting"):
        Experiment.from_settings(read(tmp_path, text))


def test_a_file_of_many_bytes_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml_files, "LARGEST_FILE", 10)
    with pytest.raises(UserError, match="has 13 bytes, which is too much for settings"):
        read(tmp_path, "lr: 0.500000\n")


def test_a_file_is_parsed_once_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[str] = []
    own = yaml.SafeLoader.__init__
    monkeypatch.setattr(yaml.SafeLoader, "__init__", lambda self, file: parsed.append(file.name) or own(self, file))
    path = tmp_path / "a.yml"
    path.write_text("lr: 1\n---\nlr: 2\n")
    assert app_files.count(path) == 2
    assert [app_files.read(path, document=number).settings["lr"] for number in (0, 1)] == [1, 2]
    assert len(parsed) == 1
    path.write_text("lr: 35\n")
    assert app_files.read(path).settings["lr"] == 35


@pytest.mark.parametrize("name", ["/", ".", "..", "x" * 5000, "a\0b", "~", "//"])
def test_odd_names_of_apps_are_told(name: str) -> None:
    with pytest.raises(UserError, match="There is no app") as raised:
        app_files.read(app_files.find(name))
    assert len(str(raised.value)) < 200
