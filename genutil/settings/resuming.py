"""What becomes of a key that has another value when a checkpoint is resumed than in the checkpoint: one table of all.

What training goes on with is what its next checkpoint records: a key either acts from there on, or is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum

from genutil.config import RUN_SECTIONS, Experiment
from genutil.errors import UserError
from genutil.settings.acceleration import Acceleration
from genutil.settings.images import Images
from genutil.settings.network import Network, RandomWiring
from genutil.settings.recipe import Recipe
from genutil.settings.record import Record
from genutil.settings.section import Section
from genutil.settings.wiring import RuleOptions, Wiring


class Fate(Enum):
    """What becomes of a key that differs from the checkpoint's, in training that goes on and in an evaluation."""

    ACTS = "acts from there on", "acts"
    TRAINS = "acts from there on", "no effect, and told"
    RATE = "acts where the rule can follow it, refused else", "refused"
    FIXED = "refused", "refused"
    BEGINNING = "refused", "no effect, and told"


TABLE: dict[type[Section], tuple[Fate, dict[Fate, tuple[str, ...]]]] = {
    Network: (
        Fate.FIXED,
        {
            Fate.ACTS: ("image_size", "solver", "solver_steps", "tolerance"),
            Fate.TRAINS: ("dropout", "bn_momentum", "activation_checkpointing"),
        },
    ),
    RandomWiring: (
        Fate.FIXED,
        {
            Fate.TRAINS: ("dropout_rate", "drop_edge", "classifier_dropout"),
            Fate.BEGINNING: ("graph_model", "graph_param", "graph_seed"),
        },
    ),
    Wiring: (Fate.FIXED, {Fate.RATE: ("prune_rate",), Fate.BEGINNING: ("use_graph", "use_init")}),
    RuleOptions: (Fate.TRAINS, {Fate.BEGINNING: ("str_initial",)}),
    Images: (Fate.ACTS, {Fate.TRAINS: ("train_records", "augment", "validation_share")}),
    Recipe: (
        Fate.TRAINS,
        {Fate.ACTS: ("precision", "deterministic"), Fate.BEGINNING: ("optimizer", "decay_norm_and_bias")},
    ),
    Acceleration: (Fate.TRAINS, {Fate.ACTS: ("channels_last",)}),
    Record: (Fate.TRAINS, {Fate.ACTS: ("experiment",)}),
}
"""Of each section the fate of its keys, and those that have another one."""


def fates() -> dict[str, Fate]:
    """The fate of every key that a checkpoint keeps, in the order of the sections."""
    found: dict[str, Fate] = {}
    for section in RUN_SECTIONS:
        most, others = TABLE[section]
        own = {key: fate for fate, keys in others.items() for key in keys}
        found |= {key: own.get(key, most) for key in section.model_fields}
    return found


def markdown() -> str:
    """The table for the documentation."""
    lines = ["| key | training that goes on | evaluation, profile |", "| --- | --- | --- |"]
    for fate in Fate:
        keys = ", ".join(f"`{key}`" for key, own in fates().items() if own is fate)
        lines.append(f"| {keys} | {fate.value[0]} | {fate.value[1]} |")
    return "\n".join(lines)


def check(experiment: Experiment, saved: Experiment, checkpoint: str) -> None:
    """Compare an experiment with that of the checkpoint of ours that it resumes.

    Args:
        experiment: what is run, with the graphs of its random stages.
        saved: of the checkpoint.
        checkpoint: its name.

    Raises:
        UserError: a key differs that the table refuses. Whether a prune rate can be followed is not asked here.
    """
    for key, fate in _differing(experiment, saved):
        if fate.value[0 if experiment.trains else 1] == "refused":
            raise refusal(key, experiment, saved, checkpoint)


def refusal(key: str, experiment: Experiment, saved: Experiment, checkpoint: str, why: str = "") -> UserError:
    """The error of a key that differs from the checkpoint's."""
    values = [_shown(getattr(each, key)) for each in (saved, experiment)]
    differs = f"{key} is {values[0]} in {checkpoint} and {values[1]} here" if all(values) else f"{key} differs"
    if not experiment.trains:
        return UserError(f"{differs}: {why or 'an evaluation or a profile is of what was trained'}.")
    why = why or "training goes on as it began"
    return UserError(f"{differs}: {why}. --init_from {checkpoint} starts another run from its weights.")


def _differing(experiment: Experiment, saved: Experiment) -> Iterator[tuple[str, Fate]]:
    # weights of a dense network may be evaluated under any rule
    wired_now = not experiment.trains and saved.wiring == "complete"
    free = set(Wiring.model_fields) if wired_now else set()
    if experiment.wiring == saved.wiring == "complete":
        free |= {"prune_rate", "budget", "dense_layers"}
    # the graph that was fixed is in the checkpoint, so that its origins need not be given again
    free |= {key for key in ("use_graph", "use_init") if getattr(experiment, key) is None}
    for key, fate in fates().items():
        if key not in free and getattr(experiment, key) != getattr(saved, key):
            yield key, fate


def _shown(value: object) -> str:
    text = str(value).lower() if isinstance(value, bool) else "none" if value in (None, []) else str(value)
    return text if len(text) <= 60 else ""
