"""What is installed: the same requirements wherever they are listed, and every file that a run reads."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

import runner

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
FOLDERS = ("apps", "data", "genutil", "models", "pretrained")
EXTRAS = PROJECT["project"]["optional-dependencies"]


def listed(name: str) -> set[str]:
    """The requirements of a file, without what it includes."""
    lines = (ROOT / name).read_text().splitlines()
    return {line for line in lines if line and not line.startswith(("-r ", "#"))}


def test_requirements_are_those_of_the_project():
    assert listed("requirements.txt") == {*PROJECT["project"]["dependencies"], *EXTRAS["dgl"]}


def test_requirements_for_development_are_those_of_the_extras():
    named = {"neural-wirings[dgl,onnx]"}
    assert "-r requirements.txt" in (ROOT / "requirements-dev.txt").read_text()
    assert listed("requirements-dev.txt") == {*EXTRAS["onnx"], *EXTRAS["dev"]} - named
    assert named <= set(EXTRAS["dev"])


def test_versions_are_the_same():
    version = PROJECT["project"]["version"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == version
    assert f"## [{version}] - {citation['date-released']}" in (ROOT / "CHANGELOG.md").read_text()


def test_every_cited_paper_of_a_rule_is_in_the_citation():
    cited = (ROOT / "CITATION.cff").read_text()
    for path in (ROOT / "models" / "wirings").glob("*.py"):
        for paper in re.findall(r"arXiv (\d{4}\.\d{5})", path.read_text()):
            assert paper in cited, f"{path.name} cites {paper}"


def test_the_installed_command_reads_the_words_of_its_process(monkeypatch, capsys):
    assert PROJECT["project"]["scripts"]["neural-wirings"] == "runner:main"
    monkeypatch.setattr(sys, "argv", ["neural-wirings", "app:quickstard"])
    assert runner.main() == 2
    assert "quickstart" in capsys.readouterr().err


def test_a_wheel_holds_every_file_of_the_packages(tmp_path):
    pytest.importorskip("setuptools")
    tree = tmp_path / "tree"
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, tree / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("runner.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    files = {path.relative_to(tree).as_posix() for path in tree.rglob("*") if path.is_file()}
    build = [sys.executable, "-c", "import setuptools.build_meta as b, sys; b.build_wheel(sys.argv[1])", str(tmp_path)]
    done = subprocess.run(build, cwd=tree, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    (wheel,) = tmp_path.glob("*.whl")
    held = set(zipfile.ZipFile(wheel).namelist())
    assert not {name for name in files if name.startswith((*FOLDERS, "runner.py"))} - held
