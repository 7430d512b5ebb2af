"""Where a network stands among others: accuracy and cost of this one, of published ones, and of recorded trainings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from genutil.errors import UserError
from genutil.reports import results

PUBLISHED = Path(__file__).with_name("published.yml")
RECORDED = Path(__file__).resolve().parents[3] / "results"
"""Where the project keeps the results of its own trainings; an installed package has none."""

UNWIRED = ("complete",)
DRAWN = ("random", "dnw_no_update")


@dataclass(frozen=True)
class Standing:
    """A network in the plane of accuracy over cost.

    Attributes:
        name: for people.
        data: name of the data set.
        kind: "learned", "random" or "fixed", what its wiring is.
        origin: "this run", "published" or "recorded here".
        parameters, multiply_adds: of one image.
        top1: accuracy in percent.
    """

    name: str
    data: str
    kind: str
    origin: str
    parameters: float
    multiply_adds: float
    top1: float


def kind_of(settings: Mapping[str, Any]) -> str:
    """What the wiring of an experiment is."""
    if settings.get("wiring") in DRAWN:
        return "random"
    if settings.get("wiring") not in (*UNWIRED, None):
        return "learned"
    return "random" if settings.get("model") == "randwire" else "fixed"


def published() -> list[Standing]:
    """The networks of `published.yml`."""
    table = yaml.safe_load(PUBLISHED.read_text(encoding="utf-8"))
    return [
        Standing(
            row["name"],
            table["data"],
            row["kind"],
            "published",
            row["parameters"] * 1e6,
            row["multiply_adds"] * 1e6,
            row["top1"],
        )
        for row in table["networks"]
    ]


def recorded(folder: Path = RECORDED) -> list[Standing]:
    """The finished trainings of a folder of results; what cannot be read as one is left out."""
    return list(_recorded(folder))


def _recorded(folder: Path) -> Iterator[Standing]:
    for path in sorted(folder.rglob("*.json")):
        try:
            found = results.read(path)
        except UserError:
            continue
        costs, last, settings = found.get("profile"), found.get("last"), found["settings"]
        if not costs or not last:
            continue
        name = f"{found['experiment']}, seed {found['seed']}" + (" (shortened)" if found.get("shortened") else "")
        costs = costs["parameters"], costs["multiply_adds"]
        yield Standing(name, str(settings.get("data")), kind_of(settings), "recorded here", *costs, last["top1"])
