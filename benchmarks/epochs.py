"""One epoch of every experiment with a learned wiring on CIFAR-10, by this code and by an earlier state of it.

    python benchmarks/epochs.py --data_dir D --threads 2 [--json FILE]
    python benchmarks/epochs.py --before CHECKOUT --steps 40 --only small_scale/static_dnw --data_dir D --threads 2

Each training is a process of its own, in turns: the earlier state, a folder with its files, takes only so many steps,
this code the whole epoch. Arguments that are not told here go to both runners. Images a second are the runner's, in its
metrics.jsonl: of training, without validation.
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

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.conditions import conditions

ROOT = Path(__file__).resolve().parents[1]
EXPERIMENTS = (
    "small_scale/static_dnw",
    "small_scale/discrete_time_dnw",
    "small_scale/continuous_time_dnw",
    "medium_scale/mobilenetv1_dnw_x225",
    "medium_scale/mobilenetv1_dnw_no_update_x225",
)


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
    """The commit that a folder's files are of; "unknown" outside a git repository."""
    asked = subprocess.run(["git", "-C", str(code), "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    return asked.stdout.strip() if asked.returncode == 0 else "unknown"


def measure(experiment: str, before: Path | None, steps: int, settings: Sequence[str]) -> dict[str, Any]:
    """Images a second and the last validation of an experiment's epoch, with the rate of an earlier state's steps."""
    row: dict[str, Any] = {"experiment": experiment}
    if before is not None:
        record = trained(before, experiment, [*settings, "--num_steps", str(steps)])
        row["before"] = {"images_per_second": record["images_per_second"], "steps": record["step"]}
    record = trained(ROOT, experiment, settings)
    row["now"] = {name: record[name] for name in ("images_per_second", "step", "seconds", "validation_top1")}
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
    parser.add_argument("--json", type=Path)
    args, settings = parser.parse_known_args()
    if args.before is not None and not (args.before / "runner.py").is_file():
        parser.error(f"--before {args.before}: there is no runner.py")
    rows = []
    for experiment in args.only:
        rows.append(measure(experiment, args.before, args.steps, settings))
        print(line(rows[-1]), flush=True)
    if args.json:
        found = {"measured": conditions(), "rows": rows}
        if args.before is not None:
            found["before"] = state(args.before)
        args.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
