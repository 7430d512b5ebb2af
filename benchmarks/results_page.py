"""Make the pages of GENERATED and the headlines in README.md from measured and computed figures.

    python benchmarks/results_page.py            write what is stale
    python benchmarks/results_page.py --check    write nothing; exit with status 1 where something is stale

The prose stands in docs/templates. What it puts between double braces comes from a JSON file:

    {{train_step/ratio/median:.1f}}            a value of benchmarks/results/train_step.json, with a format
    {{median selection/milliseconds/torch.sort:.0f}}    one of FUNCTIONS of a value
    {{spread trained/small_scale/static_dnw/top1}}      of whole trainings, see trained_tables.summaries
    {{table engines}}                          a table of benchmarks/results_tables.py or benchmarks/trained_tables.py

A new table is a JSON file, a function there, and a line in the template.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks import machine_tables, results_tables, trained_tables, training_queue
from genutil.reports import results as results_files

ROOT = Path(__file__).resolve().parents[1]
FIGURE = re.compile(r"\{\{(?:(\w+) )?([^:{}]+)(?::([^{}]*))?\}\}")
NOTICE = "<!-- Made by benchmarks/results_page.py from docs/templates and measured figures: do not edit. -->"
HEADLINES = re.compile(r"(<!-- headlines[^>]*-->\n).*?(<!-- end of headlines -->)", re.DOTALL)

TABLES = results_tables.TABLES | trained_tables.TABLES | machine_tables.TABLES
GENERATED = ("results", "exporting", "many_machines")
"""The pages that are made whole, each from the template of its name."""

FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "median": statistics.median,
    "spread": lambda values: results_tables.spread(values, ".2f"),
    "least": min,
    "most": max,
    "percent": lambda share: 100 * share,
    "gibibytes": lambda mebibytes: mebibytes / 1024,
    "measured": lambda measured: describe(measured),
}


def describe(measured: Mapping[str, Any]) -> str:
    """The command, the date and the machine of a measurement, as a line of Markdown."""
    number = measured.get("threads")
    threads = "" if number is None else f", {number} thread{'' if number == 1 else 's'}"
    where = f"{measured['hardware']}{threads}, torch {measured['torch'].split('+')[0]}"
    return f"`{measured['command']}` ({measured['date']}; {where})"


class Figures:
    """Measured figures by the name of their file.

    Args:
        benchmarks: folder of what benchmarks measured, a JSON file each.
        trained: folder of trainings, a JSON file a finished run, with the published figures.
        queue: file of the trainings that are to be run.

    Attributes:
        trained: the results of finished runs.
        published: the file of published figures.
        queued, queued_on_cpu: the kinds of trainings that are to be run, and those of them that do not need a GPU.
    """

    def __init__(self, benchmarks: Path, trained: Path, queue: Path) -> None:
        self.files = {path.stem: json.loads(path.read_text()) for path in sorted(benchmarks.glob("*.json"))}
        self.trained = [results_files.read(path) for path in sorted(trained.rglob("*.json"))]
        self.published = trained / "published.yml"
        published = trained_tables.read_published(self.published) if self.published.exists() else {}
        self.files["trained"] = trained_tables.summaries(self.trained, published)
        entries = training_queue.read(queue)
        kinds = [(trained_tables.kind_of(entry.experiment, entry.resolved()), entry.device) for entry in entries]
        self.queued = [kind for kind, _ in kinds]
        self.queued_on_cpu = {kind for kind, device in kinds if device != "gpu"}

    def value(self, path: str) -> Any:
        """What stands at file/key/key. Raises KeyError, naming the place, where nothing does."""
        found: Any = self.files
        for key in path.split("/"):
            try:
                found = found[int(key) if isinstance(found, list) else key]
            except (KeyError, IndexError, ValueError):
                raise KeyError(f"no figure at {path}: {key} is not there") from None
        return found

    def fill(self, template: str) -> str:
        """A template with its figures. Raises KeyError for one that there is not."""
        return FIGURE.sub(self._shown, template)

    def _shown(self, match: re.Match[str]) -> str:
        function, path, form = match.groups()
        if function == "table":
            return TABLES[path](self)
        value = self.value(path)
        return format(FUNCTIONS[function](value) if function else value, form or "")


def pages(root: Path = ROOT) -> dict[Path, str]:
    """What each page that holds measured figures should say."""
    figures = Figures(root / "benchmarks" / "results", root / "results", root / "benchmarks" / "queue.yml")
    templates = root / "docs" / "templates"
    made = {name: f"{NOTICE}\n\n{figures.fill((templates / f'{name}.md').read_text())}" for name in GENERATED}
    headlines = figures.fill((templates / "headlines.md").read_text())
    readme = (root / "README.md").read_text()
    if len(HEADLINES.findall(readme)) != 1:
        raise ValueError("README.md has no place, or several, for the headlines")
    filled = HEADLINES.sub(lambda match: match[1] + headlines + match[2], readme)
    return {**{root / "docs" / f"{name}.md": text for name, text in made.items()}, root / "README.md": filled}


def stale(root: Path = ROOT) -> dict[Path, str]:
    """The pages that do not say what they should, with what they should say."""
    return {path: text for path, text in pages(root).items() if not path.exists() or path.read_text() != text}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; status 1 where something is stale")
    args = parser.parse_args()
    found = stale()
    for path, text in found.items():
        if args.check:
            print(f"{path.relative_to(ROOT)} is stale: run python benchmarks/results_page.py", file=sys.stderr)
        else:
            path.write_text(text)
            print(f"written: {path.relative_to(ROOT)}")
    return 1 if args.check and found else 0


if __name__ == "__main__":
    sys.exit(main())
