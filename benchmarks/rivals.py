"""ResNet-20 on CIFAR-10 with 90 % of its edges removed, under rival rules with one recipe and one budget.

    python benchmarks/rivals.py --data-dir D [--steps 300] [--batch 64] [--rules dnw set str] [--json FILE]

Every rule keeps the same number of edges, shared by one global budget. How many STR leaves depends on the weight decay
of its thresholds: that is searched, by whole runs, until what it leaves by itself is near the budget or `--searches`
runs are done; of these the nearest counts.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.conditions import conditions
from genutil.config import Experiment
from genutil.run import run
from genutil.settings import app_files
from genutil.settings.layers import Layer, merge
from genutil.training.schedules import make_schedule

RULES = ("dnw", "gradual_magnitude", "set", "rigl", "str")
APP = "sparsity/resnet20_dnw_90"
RECIPE = {"lr_scheduler": "cosine", "lr": 0.1, "bn_momentum": 0.1, "budget": "global", "skip_profiling": True}
"""Over the app's: a rate that falls within few steps, and running statistics that follow as fast."""
NEAR = 0.01
"""Share of all edges by which STR's own number may miss the budget."""


def search(sparsity: Callable[[float], float], target: float, strength: float, runs: int) -> None:
    """Bisect for the strength at which a rising function of it comes near its target, in steps of a fifth at first."""
    low, high = 0.0, math.inf
    for _ in range(runs):
        found = sparsity(strength)
        print(f"  strength {strength:.3g}: {100 * found:.2f} % sparse by itself", flush=True)
        if abs(found - target) <= NEAR:
            return
        low, high = (strength, high) if found < target else (low, strength)
        strength = low * 1.2 if high == math.inf else high / 1.2 if not low else math.sqrt(low * high)


def guess(experiment: Experiment, steps_per_epoch: int) -> float:
    """The decay that alone brings STR's threshold argument to a fifth of where it starts, over all steps."""
    rates = statistics.fsum(make_schedule(experiment, steps_per_epoch).lr(step) for step in range(experiment.num_steps))
    return math.log(5) * (1 - experiment.momentum) / rates


def result(experiment: Experiment) -> dict[str, Any]:
    """What one run gives, in short."""
    found = run(experiment)
    keys = ("top1", "top5", "loss", "edges")
    return {"str_decay": experiment.str_decay if experiment.wiring == "str" else None} | {
        key: found[key] for key in keys
    }


def searched(experiment: Experiment, runs: int) -> dict[str, Any]:
    """STR's run whose own number of edges comes nearest to the budget, with all trials."""
    trials = []

    def sparsity(decay: float) -> float:
        trials.append(result(experiment.but(str_decay=decay)))
        return 1 - trials[-1]["edges"]["natural"] / trials[-1]["edges"]["possible"]

    search(sparsity, experiment.prune_rate, guess(experiment, 50_000 // experiment.batch_size), runs)
    tried = {trial["str_decay"]: trial["edges"]["natural"] for trial in trials}
    return min(trials, key=lambda trial: abs(trial["edges"]["natural"] - trial["edges"]["acting"])) | {"trials": tried}


def line(rule: str, found: dict[str, Any]) -> str:
    edges = found["edges"]
    own = "" if edges["natural"] is None else f"{100 * (1 - edges['natural'] / edges['possible']):.2f} % by itself"
    kept = f"{edges['acting']} of {edges['possible']} edges"
    return f"{rule:18} error {100 - found['top1']:6.2f} %  loss {found['loss']:.4f}  {kept}  {own}".rstrip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data-dir", required=True)
    parser.add_argument("--no-verify", action="store_true", help="trust data whose md5 sums differ")
    parser.add_argument("--rules", nargs="+", choices=RULES, default=RULES)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--interval", type=int, default=25, help="steps between changes of a rule that changes")
    parser.add_argument("--searches", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    own = {
        "num_steps": args.steps,
        "batch_size": args.batch,
        "wiring_interval": args.interval,
        "seed": args.seed,
        "threads": args.threads,
        "data_dir": args.data_dir,
        "verify": not args.no_verify,
    }
    settings = {**app_files.read(app_files.find(APP)).settings, **RECIPE, **own}
    results: dict[str, Any] = {}
    for rule in args.rules:
        with tempfile.TemporaryDirectory() as folder:
            places = {"save_dir": f"{folder}/checkpoints", "log_dir": f"{folder}/runs"}
            stated = merge([Layer(settings), Layer({**places, "wiring": rule})])
            experiment = Experiment.from_settings(stated)
            results[rule] = searched(experiment, args.searches) if rule == "str" else result(experiment)
        if args.json:
            recipe = {key: value for key, value in own.items() if key != "data_dir"} | RECIPE
            whole = {"measured": conditions(), "app": APP, "recipe": recipe, "results": results}
            args.json.write_text(json.dumps(whole, indent=1) + "\n")
    print(*(line(rule, found) for rule, found in results.items()), sep="\n")


if __name__ == "__main__":
    main()
