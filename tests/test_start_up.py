"""A command imports what it uses: each of the heavy packages takes as long as a good part of torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from genutil.run import run
from tests.genutil.runs import ROOT, tiny

HEAVY = (
    "lightning_fabric",
    "matplotlib",
    "networkx",
    "onnx",
    "plotly",
    "scipy",
    "sklearn",
    "sympy",
    "tensorboard",
    "tfrecord",
    "torch._dynamo",
    "torch._inductor",
    "torchdiffeq",
    "torchvision",
)


def imported(*words: str) -> set[str]:
    """The heavy packages that a command imports."""
    code = (
        "import runner, sys\n"
        "status = runner.main(sys.argv[1:])\n"
        f"print('imported:', *(name for name in {HEAVY!r} if name in sys.modules))\n"
        "sys.exit(status)"
    )
    answer = subprocess.run([sys.executable, "-c", code, *words], cwd=ROOT, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    return set(answer.stdout.splitlines()[-1].split()[1:])


def test_a_profile_imports_nothing_heavy():
    assert imported("app:quickstart", "--profile", "--gpus", "[]") == set()


def test_a_picture_imports_what_draws_it(tmp_path: Path):
    words = ["--profile", "--gpus", "[]", "--dim", "60", "--downsample_dim", "12", "--feature_dim", "12"]
    found = imported("app:quickstart", *words, "--layers", "4", "--picture", str(tmp_path / "network.png"))
    assert "matplotlib" in found


def test_an_evaluation_imports_what_the_digits_lie_in_alone(tmp_path: Path):
    run(tiny(tmp_path, num_epochs=1, threads=1))
    checkpoint = str(tmp_path / "checkpoints" / "tiny" / "last.pt")
    assert imported("--resume", checkpoint, "--evaluate", "--gpus", "[]") == {"scipy", "sklearn"}
