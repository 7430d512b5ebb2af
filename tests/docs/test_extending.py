"""Every recipe of docs/extending.md is carried out in a copy of the tree, and its commands then work."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.recipes import Recipe, apply, carry_out, recipes

RECIPES = recipes()


def test_there_are_recipes():
    assert {recipe.title for recipe in RECIPES} >= {"An experiment"}


@pytest.mark.parametrize("recipe", [pytest.param(recipe, id=recipe.title) for recipe in RECIPES])
def test_recipe_works(recipe: Recipe, workplace: Path):
    carry_out(recipe, workplace)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path}
    environment.pop("DATA_DIR", None)
    for commands in recipe.commands:
        script = ["bash", "-euo", "pipefail", "-c", commands]
        done = subprocess.run(script, cwd=workplace, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, f"{recipe.title}: {done.stderr[-2000:]}"


@pytest.mark.parametrize("recipe", [pytest.param(recipe, id=recipe.title) for recipe in RECIPES])
def test_recipe_is_well_written(recipe: Recipe, workplace: Path):
    """What a recipe writes passes the linter as it stands."""
    carry_out(recipe, workplace)
    files = [name for name in recipe.files if name.endswith(".py")]
    for words in (["check"], ["format", "--check"]):
        if files:
            done = subprocess.run([sys.executable, "-m", "ruff", *words, *files], cwd=workplace, capture_output=True)
            assert done.returncode == 0, (done.stdout + done.stderr).decode()


def test_lines_that_are_not_there_are_refused(tmp_path):
    (tmp_path / "a.py").write_text("one\ntwo\ntwo\n")
    apply("--- a.py\n+++ a.py\n@@\n one\n+more\n", tmp_path)
    assert (tmp_path / "a.py").read_text() == "one\nmore\ntwo\ntwo\n"
    for lines in (" three", " two"):
        with pytest.raises(ValueError, match=r"a.py has [02] times"):
            apply(f"--- a.py\n+++ a.py\n@@\n{lines}\n+more\n", tmp_path)


def test_new_files_replace_none(tmp_path):
    (tmp_path / "a.py").touch()
    with pytest.raises(ValueError, match=r"a.py is there already"):
        carry_out(Recipe("A file", files={"a.py": "x = 1\n"}), tmp_path)
