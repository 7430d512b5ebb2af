"""An experiment as one typed object.

Its keys are flat, and those that app files had in 2019 keep their names. They stand in sections (genutil/settings), a
class each: those of `RUN_SECTIONS` decide what a run is and go into its checkpoints; those of `INVOCATION_SECTIONS`
belong to one call of the runner on one machine and are never taken over from a checkpoint.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any, Self

from pydantic import ValidationError, model_validator
from pydantic.fields import FieldInfo

from genutil.errors import UserError, nearest, shortened
from genutil.settings import dialect_before_options
from genutil.settings.acceleration import Acceleration
from genutil.settings.dialect_2019 import rename_rule
from genutil.settings.field_types import expectation
from genutil.settings.images import Images
from genutil.settings.invocation import Invocation, Machine
from genutil.settings.layers import Layer, merge
from genutil.settings.network import DEEP_NETWORKS, SELF_WIRED_NETWORKS, Network, RandomWiring
from genutil.settings.recipe import Recipe
from genutil.settings.record import Record
from genutil.settings.section import LARGEST, LARGEST_WHOLE, Section
from genutil.settings.wiring import RuleOptions, Wiring, check_options, chosen_options

__all__ = [
    "DEEP_NETWORKS",
    "INVOCATION_SECTIONS",
    "KEYS",
    "RUN_KEYS",
    "RUN_SECTIONS",
    "SECTIONS",
    "SELF_WIRED_NETWORKS",
    "Experiment",
    "Invocation",
    "Machine",
    "nearest_key",
]

RUN_SECTIONS = (Network, RandomWiring, Wiring, RuleOptions, Images, Recipe, Acceleration, Record)
INVOCATION_SECTIONS = (Machine, Invocation)
SECTIONS = RUN_SECTIONS + INVOCATION_SECTIONS


def _keys(sections: tuple[type[Section], ...]) -> dict[str, FieldInfo]:
    return {field.alias or name: field for section in sections for name, field in section.model_fields.items()}


KEYS = _keys(SECTIONS)
"""Every key of an experiment, as app files and the command line spell it, in the order of the sections."""

RUN_KEYS = frozenset(_keys(RUN_SECTIONS))
"""The keys that a checkpoint keeps."""

INVOCATION_KEYS = frozenset(_keys(INVOCATION_SECTIONS))

PLACES = ("save_dir", "log_dir")
"""Keys of folders that a run writes to; a checkpoint keeps them, and none is followed."""

OTHER_WORDS = {
    "learning_rate": "lr",
    "classes": "output_size",
    "num_classes": "output_size",
    "dataset": "data",
    "rule": "wiring",
    "sparsity": "prune_rate",
    "checkpoint": "resume",
}


class Experiment(Invocation, Machine, Record, Acceleration, Recipe, Images, RuleOptions, Wiring, RandomWiring, Network):
    """Everything that decides what a run does. Accuracies are in percent, sizes in pixels, lengths in epochs."""

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.model in SELF_WIRED_NETWORKS and (self.budget != "uniform" or self.dense_layers):
            raise ValueError(f"model {self.model} has graphs of its own, which take no budget and no dense_layers")
        if self.model != "randwire" and self.stages is not None:
            raise ValueError(f"stages counts those of randwire; {self.model} has its own")
        if self.model == "randwire" and self.wiring != "complete" and self.graph_model != "complete":
            raise ValueError(
                f"wiring: {self.wiring} keeps some edges of a complete graph: "
                "randwire needs graph_model: complete for it"
            )
        check_options(self.wiring, self)
        if (self.train_records or self.test_records) and self.data != "records":
            raise ValueError(f"train_records and test_records belong to data: records, and data is {self.data}")
        for key, values in (("mean", self.mean), ("std", self.std)):
            if values is not None and len(values) != self.in_channels:
                raise ValueError(f"{key} has {len(values)} values for {self.in_channels} channels (in_channels)")
        if (self.mean is None) != (self.std is None):
            raise ValueError("mean and std come together, or neither")
        if self.wiring == "fine_tune" and self.trains and not self.resume and not self.use_graph:
            raise ValueError(
                "wiring: fine_tune needs use_graph, a checkpoint of the same network trained with wiring: complete"
            )
        if self.fused is True and self.optimizer == "rmsprop":
            raise ValueError("torch has no fused kernels for optimizer: rmsprop")
        if self.fused is True and self.precision == "16" and self.clip_grad_norm is not None:
            raise ValueError("fused with precision: 16 leaves no gradient to clip: leave out fused or clip_grad_norm")
        if self.fast_eval and self.precision == "64":
            raise ValueError("fast_eval computes in 32 bits: give precision: 32")
        if self.averaged and not (self.resume or self.init_from):
            raise ValueError("averaged says which weights of a checkpoint are taken: it needs resume or init_from")
        if self.averaged and self.resume and self.trains:
            raise ValueError("averaged with resume is for evaluation; init_from starts a training from such weights")
        if self.init_from and self.use_graph:
            raise ValueError("init_from and use_graph both say which weights to start from: give one of them")
        return self

    @property
    def trains(self) -> bool:
        """Whether the run trains, and does not stop after a profile or an evaluation."""
        return not (self.evaluate or self.profile)

    @property
    def profiles(self) -> bool:
        """Whether a profile is printed; `profile` wins over `skip_profiling`."""
        return self.profile or not self.skip_profiling

    @property
    def rule_options(self) -> dict[str, Any]:
        """The options of the wiring's rule, by the names that the rule has for them."""
        return chosen_options(self.wiring, self)

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any], origins: Mapping[str, str] | None = None) -> Self:
        """Make an experiment of flat settings; keys that are absent take their defaults.

        `origins` says of each key where it was given, for the message ("--lr", "lr (apps/quickstart.yml)").

        Raises UserError for an unknown key (naming the nearest), a wrong type, an impossible value, or an option that
        the wiring does not take with another value than its default.
        """
        settings, origins = rename_rule(settings), origins or {}
        for key in settings:
            if key not in KEYS:
                where = origins.get(key, str(key))
                raise UserError(f"{where} is not a setting; the nearest is {nearest_key(str(key))}.")
        try:
            return cls.model_validate(settings)
        except ValidationError as error:
            raise UserError(_sentence(error, settings, origins)) from None

    @classmethod
    def from_saved(cls, saved: Mapping[str, Any], overrides: Mapping[str, Any] | None = None) -> Self:
        """Make the experiment of a checkpoint's settings, with other values for the keys of `overrides`.

        What belonged to the invocation that saved them is not taken over, and neither are options that the wiring does
        not take, nor the places that it wrote to: a file from elsewhere chooses no folder here. Training goes on where
        the checkpoint lies, if that is in a folder of the run's name. Raises UserError as `from_settings`.
        """
        overrides = rename_rule(overrides or {})
        kept = {str(key): value for key, value in saved.items() if key not in (*INVOCATION_KEYS, *PLACES)}
        kept |= _own_place(kept.get("name"), overrides.get("resume"))
        kept = rename_rule(dialect_before_options.translate(kept))
        origins = {key: f"{key} (in the checkpoint)" for key in kept} | {key: f"--{key}" for key in overrides}
        return cls.from_settings(merge([Layer(kept, tolerant=True), Layer(overrides)]), origins)

    def but(self, **changes: Any) -> Self:
        """The same experiment with other values for some keys, checked as a whole.

        Options of the wiring do not outlive it.
        """
        return self.from_settings(merge([Layer(self.to_dict()), Layer(rename_rule(changes))]))

    def to_dict(self) -> dict[str, Any]:
        """Every setting, by key, in types that YAML and JSON have; `from_settings` reads it back."""
        plain = self.model_dump(mode="json", by_alias=True)
        return {key: plain[key] for key in KEYS}

    def to_saved(self) -> dict[str, Any]:
        """What defines the run, for its checkpoints and as an app file; `from_saved` reads it back."""
        return {key: value for key, value in self.to_dict().items() if key in RUN_KEYS}


def _own_place(name: Any, checkpoint: Any) -> dict[str, str]:
    """The `save_dir` of a run by where its checkpoint lies; nothing where its folder has another name than the run."""
    folder = Path(str(checkpoint or "")).expanduser().resolve().parent
    depth = len(PurePath(str(name)).parts) if name else 0
    own = PurePath(*folder.parts[-depth:]) if depth else None
    if own is None or not re.fullmatch(re.escape(str(PurePath(str(name)))) + r"(-\d+)?", str(own)):
        return {}
    return {"save_dir": str(folder.parents[depth - 1])}


def nearest_key(word: str) -> str:
    """The key that somebody who wrote `word` most likely meant."""
    found = nearest(word, [*KEYS, *OTHER_WORDS])
    return OTHER_WORDS.get(found, found)


LONGEST_FAULT = 400
"""Characters of a message."""

_SAID = {
    "extreme": f"must be a number that a run can have, below {LARGEST_WHOLE:,} if whole and {LARGEST:g} else",
    "odd_text": "must be text without NUL and in the encoding of this system",
}


def _sentence(error: ValidationError, settings: Mapping[str, Any], origins: Mapping[str, str]) -> str:
    first = error.errors(include_url=False)[0]
    if first["type"] == "value_error":
        return f"{shortened(first['ctx']['error'], LONGEST_FAULT)}."
    key = str(first["loc"][0])
    if first["type"] in ("extreme", "odd_text"):
        return f"{origins.get(key, key)} {_SAID[first['type']]}, not {_shown(settings[key])}."
    return f"{origins.get(key, key)} must be {expectation(KEYS[key])}, not {_shown(settings[key])}."


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    return shortened(str(value).lower() if isinstance(value, bool) else reprlib.repr(value))
