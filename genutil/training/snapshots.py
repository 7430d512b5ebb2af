"""When a training keeps snapshots of which edges act, and keeping them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from genutil.errors import UserError
from genutil.saved import snapshots
from genutil.training.timetable import Timetable
from genutil.training.wiring_watch import WiringWatch


def due_steps(count: int, steps: int, steps_per_epoch: int) -> frozenset[int]:
    """The steps after which a training keeps a snapshot: even distances, the first before training, the last behind it.

    Where there are at least as many epochs as distances between snapshots, each snapshot stands at the end of an epoch.

    Args:
        count: snapshots; fewer where the training has not as many steps.
        steps: updates of the whole training.
        steps_per_epoch: of the data.
    """
    if count < 1 or steps < 1:
        return frozenset()
    if count == 1:
        return frozenset((steps,))
    unit = steps_per_epoch if steps // steps_per_epoch >= count - 1 else 1
    inner = (round(i * steps / (count - 1) / unit) * unit for i in range(count - 1))
    return frozenset((*(step for step in inner if step < steps), steps))


@dataclass
class Snapshots:
    """Keeps snapshots of the acting edges of a training, in the process that has a folder.

    Args:
        folder: of the checkpoints; None in all processes but the first.
        watch: of the wirings. Where the network has none, nothing is kept.
        timetable: of the training.
        count: snapshots of the whole training; 0 for none.
        say: prints a line.
    """

    folder: Path | None
    watch: WiringWatch
    timetable: Timetable
    count: int
    say: Callable[[str], None]
    due: frozenset[int] = field(init=False)
    _told: bool = False

    def __post_init__(self) -> None:
        wanted = self.count if self.folder is not None and self.watch.wired else 0
        self.due = due_steps(wanted, self.timetable.steps, self.timetable.progress.steps_per_epoch)

    def look(self) -> None:
        """Keep a snapshot if one is due at the step that training has reached.

        Where it cannot be written, that is told, and training goes on without further ones.
        """
        progress = self.timetable.progress
        if self.folder is None or progress.updates not in self.due:
            return
        epoch = progress.updates / progress.steps_per_epoch
        masks = {name: mask.cpu().numpy() for name, mask in self.watch.acting().items()}
        try:
            size = snapshots.write(self.folder, progress.updates, epoch, masks)
        except UserError as error:
            self.due = frozenset()
            self.say(f"{error} Training goes on without snapshots.")
            return
        if not self._told:
            self._told = True
            self.say(
                f"{len(self.due)} snapshots of the acting edges, about {max(1, round(size / 1000)):,} kB each, go to "
                f"{self.folder / snapshots.FOLDER}."
            )
