"""The engines: what each is called, what it needs and what makes it. Needs no torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from models.registry import resolve

if TYPE_CHECKING:
    from torch import nn

    from models.sparse.graph import ChannelGraph, Size

AUTO = "auto"
"""In the place of an engine's name: the fastest of those that can run here."""


HALF_TOLERANCE = 1e-2
"""Of engines in half precision: a chosen limit, where every edge may round, by 2^-11 of its number at most."""


class UnavailableError(ValueError):
    """What an engine needs is missing here."""


@dataclass(frozen=True)
class EngineOptions:
    """What engines may be told.

    Attributes:
        threads: of a call on the CPU; torch's number where None.
        cuda_graphs: on a GPU, record the kernels once for each shape of the images, then replay them.
    """

    threads: int | None = None
    cuda_graphs: bool = False


Make = Callable[["ChannelGraph", "Size", EngineOptions], "nn.Module"]
"""From a pruned graph (`ChannelGraph.pruned`), height and width of its input, and options, to the module that runs it.

The module maps [batch, channels, height, width] to [batch, nodes], or to planes where the graph is not flat, as float32
on the CPU; it is then moved to the device and the precision that it is used in.
"""


@dataclass(frozen=True)
class Engine:
    """An engine. Callables may be given as their place, "package.module:attribute", so that the table imports nothing.

    Attributes:
        name: what it is chosen by.
        description: a few words for help texts.
        make: the maker.
        devices: types of the devices that it runs on; None: any.
        any_precision: it runs in any floating-point type; else in float32, and other inputs are converted.
        one_size: a made module serves images of one size alone, whatever the graph.
        cuda_graphs: its kernels can be recorded as CUDA graphs.
        needs: raises `UnavailableError` where something is missing that the engine needs.
        fallback: name of the engine that takes over then, with a warning; None: the error stands.
        measured: "auto" tries it.
        tolerance: largest difference from the network, relative to its largest output, that is right for this engine;
            None: what is right for float32, or for the precision that it runs in.
    """

    name: str
    description: str
    make: Make | str
    devices: tuple[str, ...] | None = None
    any_precision: bool = False
    one_size: bool = False
    cuda_graphs: bool = False
    needs: Callable[[], object] | str | None = None
    fallback: str | None = None
    measured: bool = True
    tolerance: float | None = None

    def maker(self) -> Make:
        return resolve(self.make) if isinstance(self.make, str) else self.make

    def require(self) -> None:
        """Raises UnavailableError where something is missing that the engine needs."""
        if self.needs is not None:
            needs = resolve(self.needs) if isinstance(self.needs, str) else self.needs
            needs()

    @property
    def places(self) -> str:
        """The devices in words, for messages."""
        words = {"cpu": "the CPU", "cuda": "a GPU"}
        return "any device" if self.devices is None else " or ".join(words.get(d, d) for d in self.devices)

    def runs_on(self, device_type: str) -> bool:
        return self.devices is None or device_type in self.devices


ENGINES: dict[str, Engine] = {
    engine.name: engine
    for engine in (
        Engine(
            "pruned",
            "without dead nodes, dense on the rest; any device and precision",
            "models.sparse.makers:make_pruned",
            any_precision=True,
            cuda_graphs=True,
        ),
        Engine("csr", "torch's compressed sparse rows", "models.sparse.makers:make_csr"),
        Engine(
            "dgl",
            "DGL's message passing; needs dgl",
            "models.sparse.makers:make_dgl",
            needs="models.sparse.makers:need_dgl",
            measured=False,
        ),
        Engine(
            "native",
            "C++ for this processor; needs a compiler, else csr takes its place",
            "models.sparse.makers:make_native",
            devices=("cpu",),
            one_size=True,
            needs="models.sparse.makers:need_compiler",
            fallback="csr",
        ),
        Engine(
            "native_half",
            "native in half precision, to 1e-2 of the largest output",
            "models.sparse.makers:make_native_half",
            devices=("cpu",),
            one_size=True,
            needs="models.sparse.makers:need_half_compiler",
            fallback="native",
            measured=False,
            tolerance=HALF_TOLERANCE,
        ),
    )
}
"""Every engine by its name. A further one is added as `ENGINES[engine.name] = engine`."""


def engine_names() -> tuple[str, ...]:
    """What may be chosen: every engine, and AUTO."""
    return (*ENGINES, AUTO)


def choose_engine(name: str) -> Engine:
    """The engine of that name. Raises ValueError, with the names that there are, where there is none."""
    if name not in ENGINES:
        raise ValueError(f"There is no engine {name!r}; there are {', '.join(engine_names())}.")
    return ENGINES[name]
