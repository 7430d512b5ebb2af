"""Every command on the pages is one that the runner understands, and those that can be run here are."""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

import runner
from genutil.cli import command_line, subcommands
from genutil.errors import UserError
from tests.docs.pages import PAGES, ROOT, Block, all_blocks, inline_commands

ATTRIBUTES = {
    "bash": {"run", "slow", "after", "needs", "recipe"},
    "python": {"run", "slow", "after", "fragment", "file"},
    "yaml": {"app", "file"},
    "diff": set(),
    "text": set(),
    "c": set(),
}
BLOCKS = all_blocks()


def chosen(language: str, attribute: str) -> list:
    """The blocks of a language that have an attribute, as test cases."""
    return [
        pytest.param(block, id=block.place, marks=[pytest.mark.slow] * ("slow" in block.attributes))
        for block in BLOCKS
        if block.language == language and attribute in block.attributes
    ]


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the quickstart has run, with a shorter training."""
    folder = tmp_path_factory.mktemp("trained")
    words = ["app:quickstart", "--num_epochs", "1", "--gpus", "[]", "--skip_profiling", "--only_batches", "2"]
    places = ["--save_dir", f"{folder}/checkpoints", "--log_dir", f"{folder}/runs"]
    assert runner.main([*words, *places]) == 0
    return folder


def check(command: str, trained: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command is understood: the script is there and takes those words; nothing is trained or evaluated."""
    program, *words = shlex.split(command, comments=True)
    if program == "python" and words[0] == "-m":
        assert importlib.util.find_spec(words[1]), command
        return
    if program != "python":
        assert (ROOT / program).is_file() or shutil.which(program), command
        return
    script, *words = words
    stand_ins = {"D": str(folder), "CHECKPOINT": str(trained / "checkpoints" / "quickstart" / "last.pt")}
    stand_ins["checkpoints/quickstart/last.pt"] = stand_ins["CHECKPOINT"]
    words = [stand_ins.get(word, word) for word in words]
    if script != "runner.py":
        known = (ROOT / script).read_text()
        assert all(word in known for word in words if word.startswith("--")), command
    elif words[:1] == ["records"]:
        monkeypatch.setattr("genutil.cli.commands._write", lambda args: {})
        assert runner.main(words) == 0, command
    elif words[:1] == ["graphs"]:
        assert runner.main(words) == 0, command  # drawing takes no time
    elif words and words[0] in subcommands.SUBCOMMANDS:
        subcommands.parse(words[0], words[1:])
    else:
        resolve(words)


def resolve(words: Sequence[str]) -> None:
    """Make the experiment, or experiments, of a command line. Raises UserError where that cannot be."""
    request = command_line.parse(words)
    count = command_line.documents(request)
    for document in range(count) if count > 1 else [None]:
        if not request.help:
            command_line.resolve(request, {}, document)


def write_app_files(page: Path, folder: Path) -> None:
    """Write the app files that a page shows, under the names that it gives them."""
    for block in BLOCKS:
        if block.page == page and block.attributes.get("app"):
            (folder / block.attributes["app"]).write_text(block.text)


@pytest.mark.parametrize("block", [pytest.param(block, id=block.place) for block in BLOCKS])
def test_says_what_it_is(block: Block):
    assert block.language in ATTRIBUTES, f"{block.place}: {block.language or 'no language'}"
    assert set(block.attributes) <= ATTRIBUTES[block.language], block.place
    if block.language == "bash" and block.page.name != "README.md":
        assert {"run", "needs", "recipe"} & set(block.attributes), f"{block.place} neither runs nor says what it needs"
    if block.language == "python":
        assert {"run", "fragment", "file"} & set(block.attributes), f"{block.place} does not run, and is no fragment"
        compile(block.text, block.place, "exec")


def test_readme_has_the_two_blocks_that_ci_runs():
    install, test = [b for b in BLOCKS if b.language == "bash" and not b.attributes]
    assert install.page.name == test.page.name == "README.md"
    assert install.commands[-1].endswith("python runner.py app:quickstart")
    assert test.commands[-1].endswith("python -m pytest -n auto")


@pytest.mark.parametrize(
    "block",
    [
        pytest.param(block, id=block.place)
        for block in BLOCKS
        if block.language == "bash" and "recipe" not in block.attributes  # recipes have a test of their own
    ],
)
def test_commands_are_understood(block: Block, trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_app_files(block.page, tmp_path)
    for command in block.commands:
        if block.attributes or "runner.py" in command:  # the others install
            check(command.replace(".venv/bin/python", "python"), trained, tmp_path, monkeypatch)


@pytest.mark.parametrize("page", [page for page in PAGES if page.exists()], ids=lambda page: page.name)
def test_commands_in_the_text_are_understood(page: Path, trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_app_files(page, tmp_path)
    for command in inline_commands(page):
        check(command, trained, tmp_path, monkeypatch)


@pytest.mark.parametrize("block", chosen("bash", "run"))
def test_commands_run(block: Block, trained, workplace):
    if block.attributes.get("after") == "quickstart":
        shutil.copytree(trained / "checkpoints", workplace / "checkpoints")
    environment = {key: value for key, value in os.environ.items() if key != "DATA_DIR"}
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment["PATH"]])
    script = ["bash", "-euo", "pipefail", "-c", block.text.replace(".venv/bin/python", "python")]
    done = subprocess.run(script, cwd=workplace, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"{block.place}: {done.stderr[-2000:]}"


@pytest.mark.parametrize("block", chosen("python", "run"))
def test_python_runs(block: Block, trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if block.attributes.get("after") == "quickstart":
        shutil.copytree(trained / "checkpoints", tmp_path / "checkpoints")
    exec(compile(block.text, block.place, "exec"), {"__name__": "__main__"})


@pytest.mark.parametrize("block", chosen("yaml", "app"))
def test_app_files_resolve(block: Block, tmp_path):
    path = tmp_path / "shown.yml"
    path.write_text(block.text)
    resolve([f"app:{path}"])


@pytest.mark.parametrize(
    "wrong", ["app:quickstard", "app:quickstart --learn_rate 1", "--resume CHECKPOINT --lr much", "records --dir x"]
)
def test_a_wrong_command_is_found(wrong: str, trained, tmp_path, monkeypatch):
    with pytest.raises((UserError, AssertionError)):
        check(f"python runner.py {wrong}", trained, tmp_path, monkeypatch)
