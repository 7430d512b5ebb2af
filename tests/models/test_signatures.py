from __future__ import annotations

import inspect
from typing import Any

import models
from models.signatures import extended


class Base:
    def __init__(self, classes: int, width: int = 3, **options: Any) -> None: ...


class Child(Base):
    def __init__(self, *args: Any, depth: int = 5, **shared: Any) -> None:
        super().__init__(*args, **shared)


def test_own_parameters_follow_the_shared_ones():
    parameters = extended(Child.__init__, Base.__init__).parameters
    assert list(parameters) == ["classes", "width", "depth", "options"]
    assert parameters["depth"].default == 5
    assert parameters["classes"].default is inspect.Parameter.empty


def test_the_tiny_classifiers_tell_all_that_they_take():
    shared = ["classes", "image_size", "wiring", "prune_rate", "in_channels", "dim", "downsample_dim", "feature_dim"]
    own = {
        "static": ["layers"],
        "discrete_time": ["layers"],
        "continuous_time": ["solver", "solver_steps", "tolerance", "relu_in_place"],
    }
    for name, added in own.items():
        assert list(inspect.signature(models.NETWORKS[name]).parameters) == [*shared, *added, "options"]
