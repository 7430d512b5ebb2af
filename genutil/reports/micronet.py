"""The score of the MicroNet challenge (NeurIPS 2019): storage and operations against those of a baseline.

Lower is better. An entry had to reach an accuracy; the score itself knows nothing of it. Rules:
micronet-challenge.github.io/scoring_and_submission.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from genutil.reports import micronet_counts
from genutil.reports.micronet_counts import Count
from genutil.settings import app_files
from models.networks.mobilenetv1_like import STAGES, stage_layout
from pretrained.catalogue import PUBLISHED

BITS = (32, 16)
"""Those that weights have, and those that an entry without quantisation might count with for free."""


@dataclass(frozen=True)
class Task:
    """What entries of a data set were measured by.

    Attributes:
        storage: of the baseline, in units of 32 bits.
        operations: of the baseline: multiplications and additions.
        accuracy: top-1 that an entry had to reach, in percent.
        baseline: its name.
    """

    storage: float
    operations: float
    accuracy: float
    baseline: str

    def score(self, storage: float, operations: float) -> float:
        """Of so many units of storage and operations."""
        return storage / self.storage + operations / self.operations


TASKS = {
    "imagenet": Task(6.9e6, 1170e6, 75.0, "MobileNetV2 1.4"),
    "cifar100": Task(36.5e6, 10.49e9, 80.0, "WRN-28-10"),
}


@dataclass(frozen=True)
class Published:
    """A network with the figures that its authors published: parameters, multiply-adds, top-1 on ImageNet in percent.

    Attributes:
        possible: edges that a learned wiring chose among, and a bit each of its bitmask.
    """

    name: str
    parameters: float
    multiply_adds: float
    top1: float
    possible: int = 0

    def score(self, bits: int) -> float:
        """What it would have scored, if its figures are all that it needs: biases and norms are not among them."""
        share = bits / 32
        storage = self.parameters * share + self.possible / 32
        return TASKS["imagenet"].score(storage, 2 * self.multiply_adds * share)


BASELINES = (
    Published("MobileNetV1 x0.25", 0.5e6, 41e6, 50.6),
    Published("ShuffleNetV2 x0.5", 1.4e6, 41e6, 60.3),
    Published("MobileNetV1 x0.5", 1.3e6, 149e6, 63.7),
    Published("ShuffleNetV2 x1", 2.3e6, 146e6, 69.4),
)
"""Dense networks in table 1 of the submission that Discovering Neural Wirings was."""


def published() -> Iterator[Published]:
    """The dense baselines, and the wired networks of the catalogue with the bitmasks of their stages and classifier."""
    yield from BASELINES
    for entry in PUBLISHED.values():
        settings = app_files.read(app_files.find(entry.app)).settings
        possible = sum(stage_layout(*_shape(stage)).possible for stage in STAGES)
        possible += STAGES[-1][1] * settings["output_size"] if settings.get("small") else 0
        yield Published(entry.name, entry.parameters * 1e6, entry.multiply_adds * 1e6, entry.top1, possible)


def _shape(stage: tuple[int, int, int, int]) -> tuple[int, int, int]:
    in_channels, out_channels, _, blocks = stage
    return in_channels, out_channels, blocks


@dataclass(frozen=True)
class Score:
    """The counts of a network, and what they score."""

    task: str
    count: Count

    def value(self, bits: int) -> float:
        """The score, with everything in so many bits but the bitmasks."""
        return TASKS[self.task].score(self.count.storage(bits), self.count.operations(bits))

    def to_dict(self) -> dict[str, Any]:
        """Plain values: `task`, each count, and for both widths `storage`, `operations` and `score`."""
        widths = {
            str(bits): {
                "storage": self.count.storage(bits),
                "operations": self.count.operations(bits),
                "score": self.value(bits),
            }
            for bits in BITS
        }
        return {"task": self.task, **asdict(self.count), "bits": widths}

    def __str__(self) -> str:
        """A table of the counts, and for ImageNet what published networks would have scored."""
        count, task = self.count, TASKS[self.task]
        halves = [bits / 32 for bits in BITS]
        rows = [
            ("values", [count.values * share for share in halves]),
            ("bitmasks", [count.bitmask_bits / 32] * len(BITS)),
            ("norms and biases", [count.norms_and_biases * share for share in halves]),
            ("storage, units of 32 bits", [count.storage(bits) for bits in BITS]),
            ("multiplications", [count.multiplications * share for share in halves]),
            ("additions", [count.additions * share for share in halves]),
            ("operations", [count.operations(bits) for bits in BITS]),
        ]
        lines = [f"{'MicroNet 2019, ' + self.task:<28}" + "".join(f"{f'{bits} bits':>18}" for bits in BITS)]
        lines += [f"{name:<28}" + "".join(f"{value:>18,.0f}" for value in values) for name, values in rows]
        lines.append(f"{'score':<28}" + "".join(f"{self.value(bits):>18.4f}" for bits in BITS))
        if self.task == "imagenet":
            lines += ["", f"{'published, without biases':<28}" + "".join(f"{f'{bits} bits':>18}" for bits in BITS)]
            lines += [
                f"{f'{entry.name} ({entry.top1} %)':<28}" + "".join(f"{entry.score(bits):>18.4f}" for bits in BITS)
                for entry in published()
            ]
        told = f"lower is better; {task.baseline} scores 2 at 32 bits; entries had to reach {task.accuracy:g} % top-1"
        return "\n".join([*lines, told])


def score(network: nn.Module, task: str, image_size: int, in_channels: int = 3) -> Score:
    """The score of a network for one image of in_channels x image_size x image_size.

    Raises:
        ValueError: its steps depend on the image, or the image is too small.
    """
    return Score(task, micronet_counts.count(network, image_size, in_channels))
