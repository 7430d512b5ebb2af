"""One epoch of the tiny and MobileNet-like networks with learned wirings, by this code and by an earlier state of it.

    python benchmarks/epochs.py --data_dir D --threads 2 [--json FILE [--add]]
    python benchmarks/epochs.py --before CHECKOUT --steps 40 --only small_scale/static_dnw --data_dir D --threads 2

Each training is a process of its own, in turns: the earlier state, a folder with its files, takes only so many steps,
this code the whole epoch. Arguments that are not told here go to both runners. Images a second are the runner's, in its
metrics.jsonl: of training, without validation. The file is written after every experiment; with --add it keeps what is
not measured anew. Every part of a row says by which command and when it was measured.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.conditions import conditions

ROOT = Path(__file__).resolve().parents[1]
EXPERIMENTS = {
    "small_scale/static_dnw": {},
    "small_scale/discrete_time_dnw": {},
    "small_scale/continuous_time_dnw": {"solver": "rk4", "solver_steps": 4},
    "medium_scale/mobilenetv1_dnw_x225": {},
    "medium_scale/mobilenetv1_dnw_no_update_x225": {},
}
"""With settings that differ from the app file's: an early state took two minutes a step with its adaptive solver."""


def trained(code: Path, experiment: str, settings: Sequence[str]) -> dict[str, Any]:
    """What a training of one epoch by the runner in a folder wrote last into its metrics.jsonl.

    Args:
        code: folder that holds runner.py.
        experiment: as app: names it.
        settings: arguments of the runner.

    Raises:
        subprocess.CalledProcessError: the training failed; what it said stands on the terminal.
    """
    with tempfile.TemporaryDirectory() as folder:
        places = ["--save_dir", f"{folder}/checkpoints", "--log_dir", f"{folder}/logs"]
        words = [sys.executable, "runner.py", f"app:{experiment}", "--num_epochs", "1", *settings, *places]
        subprocess.run(words, cwd=code, stdout=subprocess.DEVNULL, check=True)
        (metrics,) = Path(folder, "logs").rglob("metrics.jsonl")
        return json.loads(metrics.read_text().splitlines()[-1])


def state(code: Path) -> str:
    """The commit that a folder's files are of, with -dirty where they differ; "unknown" outside a repository."""
    words = ["git", "-C", str(code), "describe", "--always", "--dirty", "--exclude", "*"]
    asked = subprocess.run(words, capture_output=True, text=True)
    return asked.stdout.strip() if asked.returncode == 0 and (code / ".git").exists() else "unknown"


def measure(experiment: str, before: Path | None, steps: int, settings: Sequence[str]) -> dict[str, Any]:
    """Images a second and the last validation of an experiment's epoch, with the rate of an earlier state's steps."""
    changes = EXPERIMENTS.get(experiment, {})
    settings = [*settings, *(word for key, value in changes.items() for word in (f"--{key}", str(value)))]
    row: dict[str, Any] = {"experiment": experiment, "settings": changes}
    if before is not None:
        record = trained(before, experiment, [*settings, "--num_steps", str(steps), "--max_eval_steps", "1"])
        row["before"] = {name: record[name] for name in ("images_per_second", "step")} | {"state": state(before)}
    record = trained(ROOT, experiment, settings)
    row["now"] = {name: record[name] for name in ("images_per_second", "step", "seconds", "validation_top1")}
    row["now"]["state"] = state(ROOT)
    return row


def line(row: dict[str, Any]) -> str:
    """A row of the table."""
    now = row["now"]
    told = f"{row['experiment']:45} {now['images_per_second']:6.0f} images/s, top-1 {now['validation_top1']:.2f} %"
    if "before" not in row:
        return told
    earlier = row["before"]["images_per_second"]
    return f"{told}; before {earlier:.0f} images/s: {now['images_per_second'] / earlier:.1f} times as fast"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="+", default=EXPERIMENTS, metavar="EXPERIMENT")
    parser.add_argument("--before", type=Path, metavar="FOLDER", help="an earlier state of the project")
    parser.add_argument("--steps", type=int, default=40, help="that the earlier state takes")
    parser.add_argument("--data_dir", "--data-dir", type=Path, help="folder of the data sets")
    parser.add_argument("--verify", choices=("true", "false"), default="true", help="check files of data [true]")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="[as many as torch takes]")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--add", action="store_true", help="keep what the file has and is not measured anew")
    args, settings = parser.parse_known_args()
    if args.before is not None and not (args.before / "runner.py").is_file():
        parser.error(f"--before {args.before}: there is no runner.py")
    if args.add and not args.json:
        parser.error("--add is for the file of --json")
    settings += ["--threads", str(args.threads), "--verify", args.verify]
    if args.data_dir is not None:
        settings += ["--data_dir", str(args.data_dir.resolve())]
    torch.set_num_threads(args.threads)
    measured = conditions()
    rows = {row["experiment"]: row for row in json.loads(args.json.read_text())["rows"]} if args.add else {}
    for experiment in args.only:
        row = measure(experiment, args.before, args.steps, settings)
        for part in ("before", "now"):
            if part in row:
                row[part]["measured"] = measured
        old = rows.get(experiment, {})
        rows[experiment] = {**(old if old.get("settings") == row["settings"] else {}), **row}
        print(line(rows[experiment]), flush=True)
        if args.json:
            args.json.write_text(json.dumps({"measured": measured, "rows": list(rows.values())}, indent=1) + "\n")


if __name__ == "__main__":
    main()
