"""Experiments that are one family: they differ in nothing but the share of edges removed."""

from __future__ import annotations

from genutil.config import Experiment
from genutil.settings import app_files


def experiment_of(name: str) -> Experiment:
    """The experiment of an app file."""
    return Experiment.from_settings(app_files.read(app_files.find(name)).settings)


def representatives() -> list[str]:
    """Of every family the name of one app, that with most edges removed, which is the cheapest."""
    families: dict[str, tuple[float, str]] = {}
    for path in app_files.experiments():
        name = app_files.app_name(path)
        experiment = experiment_of(name)
        kind = experiment.but(prune_rate=0.5 if experiment.prune_rate else 0.0, name=None)
        key = repr(sorted(kind.to_dict().items(), key=lambda item: item[0]))
        families[key] = max(families.get(key, (-1.0, "")), (experiment.prune_rate, name))
    return sorted(name for _, name in families.values())
