"""What a program runs on."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import torch

from genutil.system import conditions
from genutil.system.conditions import commit, machine, processor


def git(folder: Path, *words: str) -> str:
    given = ["git", "-C", str(folder), "-c", "user.name=A", "-c", "user.email=a@b", *words]
    return subprocess.run(given, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    git(tmp_path, "init", "--quiet")
    (tmp_path / "runner.py").write_text("first\n")
    (tmp_path / "README.md").write_text("first\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "-m", "first")
    return tmp_path


def test_the_commit_says_whether_the_code_was_changed_since(repository: Path) -> None:
    first = git(repository, "rev-parse", "HEAD")
    (repository / "README.md").write_text("second\n")
    (repository / "untracked").write_text("")
    assert commit(repository) == first
    (repository / "runner.py").write_text("second\n")
    assert commit(repository) == f"{first}+changes"


def test_code_outside_a_repository_of_its_own_has_no_commit(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = repository / "installed"
    inside.mkdir()
    assert commit(inside) is None
    monkeypatch.setenv("PATH", "")
    assert commit(repository) is None


def test_the_machine_is_plain_and_belongs_into_a_checkpoint(tmp_path: Path) -> None:
    found = machine(torch.device("cpu"), processes=2)
    assert json.loads(json.dumps(found)) == found
    torch.save(found, tmp_path / "machine.pt")
    assert torch.load(tmp_path / "machine.pt", weights_only=True) == found
    assert found["processor"] == processor() != ""
    assert (found["gpus"], found["processes"]) == ([], 2)
    assert found["threads"] == torch.get_num_threads()


def test_every_process_has_its_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU {device.index}")
    monkeypatch.setattr(conditions, "commit", lambda: "abc")
    assert machine(torch.device("cuda", 1), processes=2)["gpus"] == ["GPU 1", "GPU 1"]
