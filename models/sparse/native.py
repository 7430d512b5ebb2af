"""The native engine: a channel graph run by evaluation.cpp on the CPU, at the cost of its live edges, in fp32 or, as
`models.sparse.native_half` has it, in half precision."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from models.native import library
from models.native.layout import Structure, check_layout
from models.sparse import plan_spec
from models.sparse.graph import ChannelGraph, Size
from models.sparse.plan import make_plan
from models.sparse.plan_spec import (
    BLOCK,
    CHUNK,
    EDGE,
    RUN,
    Destination,
    ExecutionPlan,
    LevelKind,
    Phase,
    PlannedLevel,
    WorkSchedule,
)

SOURCE = library.FOLDER / "evaluation.cpp"
HALF_FLAG = "-DWIRINGS_HALF"
MEMORY, BEYOND_HALF = 1, 2
"""What the kernel gives where a call fails."""

_I32, _I64, _FLOAT = ctypes.c_int32, ctypes.c_int64, ctypes.c_float
_POINTER = ctypes.c_void_p


class _ScheduleSpec(ctypes.Structure):
    _fields_ = (
        *((name, _I32) for name in ("shares", "chunks", "blocks", "runs")),
        *((name, _I64) for name in ("order_length", "edges")),
        *((name, _POINTER) for name in ("share_begin", "chunk", "block", "run", "order", "edge")),
    )


class _LevelSpec(ctypes.Structure):
    _fields_ = (
        *((name, _I32) for name in ("kind", "destination", "nodes", "height", "width", "out_height", "out_width")),
        *((name, _I32) for name in ("tile", "strip_rows", "relu", "mean")),
        ("window", _I32 * 4),
        ("plane", _I64),
        ("plane_stride", _I64),
        *((name, _POINTER) for name in ("bias", "norm_weight", "norm_bias")),
        ("eps", _FLOAT),
        *((name, _POINTER) for name in ("kernel", "kernel_bias")),
        *((name, _I32) for name in ("kernel_height", "kernel_width", "kernel_stride", "kernel_padding")),
        *(
            (name, _I32)
            for name in ("copies", "copy_height", "copy_width", "copy_stride", "copy_padding", "copy_input")
        ),
        *((name, _POINTER) for name in ("copy_source", "copy_y", "copy_x")),
        *((name, _I32) for name in ("kernel_rows", "row_length", "row_border")),
        ("columns", _I32),
        ("column_begin", _I64),
        *((name, _POINTER) for name in ("dense", "indptr", "index", "weight")),
        ("schedule", _ScheduleSpec * 2),
    )


class _PlanSpec(ctypes.Structure):
    _fields_ = (
        *((name, _I32) for name in ("threads", "input_planes", "input_height", "input_width")),
        *((name, _I64) for name in ("input_plane", "input_stride", "input_value", "arena", "values")),
        *((name, _I32) for name in ("output_planes", "output_size")),
        ("output_value", _I64),
        ("constants", _I32),
        *((name, _POINTER) for name in ("constant_plane", "constant_length", "constant")),
    )


def load_kernel(flags: Sequence[str] = library.FLAGS, half: bool = False) -> ctypes.CDLL:
    """The compiled kernel, for planes of floats or of halves.

    Raises `library.NoCompilerError` where it cannot be built, `layout.LayoutError` where its structs are not those of
    this module.
    """
    kernel = library.load_library(SOURCE, (*flags, HALF_FLAG) if half else flags)
    check_layout(kernel, SOURCE.name, _structures(), _constants(half))
    kernel.wirings_create.restype = _POINTER
    kernel.wirings_create.argtypes = (ctypes.POINTER(_PlanSpec), ctypes.POINTER(_LevelSpec), ctypes.c_int)
    kernel.wirings_destroy.argtypes = (_POINTER,)
    kernel.wirings_run.argtypes = (_POINTER, _POINTER, _I64, _POINTER, _POINTER)
    kernel.wirings_peak.argtypes = (_I64,)
    kernel.wirings_peak.restype = _FLOAT
    return kernel


def _structures() -> dict[str, Structure]:
    """By the names of plan_spec.h."""
    return {
        "EdgeSpec": EDGE,
        "RunSpec": RUN,
        "BlockSpec": BLOCK,
        "ChunkSpec": CHUNK,
        "ScheduleSpec": _ScheduleSpec,
        "LevelSpec": _LevelSpec,
        "PlanSpec": _PlanSpec,
    }


def _constants(half: bool) -> dict[str, int]:
    """By the names of plan_spec.h."""
    kinds = {member.name: int(member) for kind in (LevelKind, Destination, Phase) for member in kind}
    unit = plan_spec.HALF_UNIT if half else plan_spec.UNIT
    return {"UNIT": unit, "ROWS_AT_ONCE": plan_spec.ROWS_AT_ONCE, **kinds}


@dataclass(frozen=True)
class LevelTiming:
    """What a level costs.

    Attributes:
        name: of the level.
        kind: what it sums over; None for the image.
        multiply_adds: of its sums, an image.
        seconds: processor time of all threads an image, by phase.
    """

    name: str
    kind: LevelKind | None
    multiply_adds: int
    seconds: dict[Phase, float]


class NativeGraph(nn.Module):
    """A channel graph for images of one size, on the CPU, in fp32, without gradients.

    Input [batch, channels, height, width], or [batch, channels] for planes of 1x1; output [batch, nodes], or planes
    where the graph is not flat. A batch is run an image a thread, what is left over with every level split among the
    threads. The result is the same, bit for bit, for any number of threads. May be called from several Python threads
    at once.

    Args:
        graph: what `ChannelGraph.pruned` gives.
        image_size: height and width.
        threads: of a call; torch's number where None.
        flags: of the compiler.

    Raises `library.NoCompilerError` where the kernel cannot be built, ValueError for a graph that it cannot run.
    """

    in_half: ClassVar[bool] = False
    """Planes are of half precision."""

    def __init__(
        self,
        graph: ChannelGraph,
        image_size: Size,
        threads: int | None = None,
        flags: Sequence[str] = library.FLAGS,
    ) -> None:
        super().__init__()
        self.graph, self.image_size = graph, image_size
        self.threads = threads or torch.get_num_threads()
        self._flags = tuple(flags)
        self._build()

    def _build(self) -> None:
        self._kernel = load_kernel(self._flags, self.in_half)
        tiles = self._kernel.wirings_max_tile(), self._kernel.wirings_max_shared_tile()
        plan = make_plan(self.graph, self.image_size, self.threads, *tiles, self.in_half)
        self.input_shape = (plan.input_planes, *plan.image_size)
        self.output_shape = (plan.output_planes,) if self.graph.flat else (plan.output_planes, *plan.output_size)
        self._engine = _Engine(self._kernel, plan)

    def forward(self, images: Tensor) -> Tensor:
        images = self._checked(images)
        return self._engine.run(images, torch.empty(len(images), *self.output_shape))

    def timings(self, images: Tensor, repeats: int = 9) -> list[LevelTiming]:
        """Where the time goes: of every level, the image first, the processor time of all threads an image.

        A figure is the median over `repeats` runs, after one that does not count. Other calls are not slowed down.

        Raises ValueError for images that `forward` refuses, or none.
        """
        images = self._checked(images)
        if not len(images) or repeats < 1:
            raise ValueError("Timings need at least one image and one run.")
        result = torch.empty(len(images), *self.output_shape)
        seconds = np.zeros((repeats + 1, len(self.graph.levels), len(Phase)))
        for run in seconds:
            self._engine.run(images, result, run)
        medians = np.median(seconds[1:], axis=0) / len(images)
        return [
            LevelTiming(level.name, kind, cost, dict(zip(Phase, map(float, row), strict=True)))
            for level, (kind, cost), row in zip(self.graph.levels, self._engine.levels, medians, strict=True)
        ]

    def _checked(self, images: Tensor) -> Tensor:
        """The images as the kernel reads them. Raises ValueError where it cannot."""
        if images.dim() == 2:
            images = images[:, :, None, None]
        if images.dtype != torch.float32 or images.device.type != "cpu" or images.shape[1:] != self.input_shape:
            raise ValueError(
                f"This native engine runs float32 images of the shape {self.input_shape} on the CPU, not "
                f"{images.dtype} of {tuple(images.shape[1:])} on {images.device}."
            )
        return images.detach().contiguous()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_engine", "_kernel")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._build()

    def __deepcopy__(self, memo: dict[int, Any]) -> NativeGraph:
        return type(self)(self.graph, self.image_size, self.threads, self._flags)

    def extra_repr(self) -> str:
        return (
            f"{self.graph.edge_count} edges, {self.image_size[0]}x{self.image_size[1]} pixels, {self.threads} threads"
        )


class _Engine:
    """A plan inside the kernel, freed with this object."""

    def __init__(self, kernel: ctypes.CDLL, plan: ExecutionPlan) -> None:
        keep: list[Any] = []
        levels = (_LevelSpec * len(plan.levels))(*(_level_spec(level, keep) for level in plan.levels))
        handle = kernel.wirings_create(ctypes.byref(_plan_spec(plan, keep)), levels, len(plan.levels))
        if not handle:
            _fail(MEMORY)
        self._kernel, self._handle = kernel, handle
        self.levels = [(None, 0), *((level.kind, _multiply_adds(level)) for level in plan.levels)]
        self._free = weakref.finalize(self, kernel.wirings_destroy, handle)

    def run(self, images: Tensor, result: Tensor, seconds: np.ndarray | None = None) -> Tensor:
        """Fills the result [batch, ...]; adds to `seconds` [levels, phases], float64, what the threads spent."""
        spent = None if seconds is None else seconds.ctypes.data
        if len(images):
            _fail(self._kernel.wirings_run(self._handle, images.data_ptr(), len(images), result.data_ptr(), spent))
        return result


def _fail(status: int) -> None:
    """Raises what a call of the kernel that ended so calls for; 0 is success."""
    if status == BEYOND_HALF:
        raise OverflowError(
            "the planes of an image hold numbers beyond half precision (65504 at most) or that are not finite; "
            "the engine native computes in float32"
        )
    if status:
        raise MemoryError("There is not enough memory for the native engine, or the system starts no more threads.")


def _multiply_adds(planned: PlannedLevel) -> int:
    """Of a level's sums, an image."""
    edges = planned.level.edges
    return 0 if edges is None else int(np.count_nonzero(edges.weight)) * planned.sums[0] * planned.sums[1]


def _pointer(array: np.ndarray | None, kind: Any, keep: list[Any]) -> int | None:
    """The address of an array of the given type, or null; `keep` holds the array until it has been copied."""
    if array is None:
        return None
    array = np.ascontiguousarray(array, dtype=kind)
    keep.append(array)
    return array.ctypes.data


def _schedule_spec(schedule: WorkSchedule, keep: list[Any]) -> _ScheduleSpec:
    return _ScheduleSpec(
        shares=len(schedule.share_begin) - 1,
        chunks=len(schedule.chunk),
        blocks=len(schedule.block),
        runs=len(schedule.run),
        order_length=len(schedule.order),
        edges=len(schedule.edge),
        share_begin=_pointer(schedule.share_begin, np.int32, keep),
        chunk=_pointer(schedule.chunk, CHUNK, keep),
        block=_pointer(schedule.block, BLOCK, keep),
        run=_pointer(schedule.run, RUN, keep),
        order=_pointer(schedule.order, np.int32, keep),
        edge=_pointer(schedule.edge, EDGE, keep),
    )


def _level_spec(planned: PlannedLevel, keep: list[Any]) -> _LevelSpec:
    level = planned.level
    spec = _LevelSpec(
        kind=planned.kind,
        destination=planned.destination,
        nodes=level.nodes,
        height=planned.sums[0],
        width=planned.sums[1],
        out_height=planned.out[0],
        out_width=planned.out[1],
        tile=planned.tile,
        strip_rows=planned.strip_rows,
        relu=level.relu,
        mean=level.mean,
        window=level.window or (0, planned.out[0], 0, planned.out[1]),
        plane=planned.place,
        plane_stride=planned.stride,
        bias=_pointer(level.bias, np.float32, keep),
    )
    if level.norm is not None:
        spec.norm_weight = _pointer(level.norm.weight, np.float32, keep)
        spec.norm_bias = _pointer(level.norm.bias, np.float32, keep)
        spec.eps = level.norm.eps
    if level.depthwise is not None:
        spec.kernel = _pointer(level.depthwise.kernel, np.float32, keep)
        spec.kernel_bias = _pointer(level.depthwise.bias, np.float32, keep)
        spec.kernel_height, spec.kernel_width = level.depthwise.kernel.shape[1:]
        spec.kernel_stride, spec.kernel_padding = level.depthwise.stride, level.depthwise.padding
    if planned.copies is not None:
        copies = planned.copies
        spec.copies = len(copies.source)
        spec.copy_height, spec.copy_width = copies.size
        spec.copy_stride, spec.copy_padding = copies.stride, copies.padding
        spec.copy_input = copies.of_input
        spec.kernel_rows, spec.row_length, spec.row_border = copies.kernel_rows, copies.row_length, copies.row_border
        spec.copy_source = _pointer(copies.source, np.int64, keep)
        spec.copy_y, spec.copy_x = _pointer(copies.y, np.int32, keep), _pointer(copies.x, np.int32, keep)
    if planned.values is not None:
        values = planned.values
        spec.column_begin = values.begin
        spec.columns = 0 if values.dense is None else values.dense.shape[1]
        spec.dense = _pointer(values.dense, np.float32, keep)
        spec.indptr = _pointer(values.indptr, np.int64, keep)
        spec.index = _pointer(values.index, np.int32, keep)
        spec.weight = _pointer(values.weight, np.float32, keep)
    for i, schedule in enumerate(planned.schedules):
        spec.schedule[i] = _schedule_spec(schedule, keep)
    return spec


def _plan_spec(plan: ExecutionPlan, keep: list[Any]) -> _PlanSpec:
    places = np.array([place for place, _ in plan.constants], np.int64)
    lengths = np.array([len(plane) for _, plane in plan.constants], np.int32)
    planes = np.concatenate([plane for _, plane in plan.constants] or [np.zeros(0, np.float32)])
    height, width = plan.image_size
    return _PlanSpec(
        threads=plan.threads,
        input_planes=plan.input_planes,
        input_height=height,
        input_width=width,
        input_plane=-1 if plan.input_is_value or plan.input_place is None else plan.input_place,
        input_stride=plan.input_stride,
        input_value=plan.input_place if plan.input_is_value else -1,
        arena=plan.arena,
        values=plan.values,
        output_planes=plan.output_planes,
        output_size=plan.output_size[0] * plan.output_size[1],
        output_value=-1 if plan.output_place is None else plan.output_place,
        constants=len(plan.constants),
        constant_plane=_pointer(places, np.int64, keep),
        constant_length=_pointer(lengths, np.int32, keep),
        constant=_pointer(planes, np.float32, keep),
    )
