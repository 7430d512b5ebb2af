"""Networks of wired channels forward and backward on the kernels of training: what was done, and on which planes.

A network enters the planes of its stem, runs nodes and sums over edges (models.native.nodes), and leaves with images.
Until then a `Tape` notes how each step is gone back; autograd sees all of it as one function of the images that entered
and of every parameter.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from models.native import training
from models.native.buffers import BUFFERS, Buffer

Back = Callable[[], None]
Window = tuple[int, int, int, int]
"""First and end row, first and end column."""


class Tape:
    """What was done between entering and leaving, to be gone back.

    Args:
        batch: images.
        dtype: of all numbers.
        recording: whether a gradient will be wanted.
        dense: the planes that entered lie without gaps, and so do those that leave.
    """

    def __init__(self, batch: int, dtype: torch.dtype, recording: bool, dense: bool = False) -> None:
        self.batch, self.dtype, self.recording, self.dense = batch, dtype, recording, dense
        self.inputs: list[Tensor] = []
        self.gradients: dict[int, Tensor] = {}
        self._watched: list[bool] = []
        self._back: list[Back] = []

    def input(self, tensor: Tensor | None, watched: bool = True) -> int | None:
        """The place of a tensor among those whose gradient is wanted; None where it is not.

        Args:
            tensor: None for none.
            watched: going back reads it, so that autograd has to see where it was changed meanwhile.
        """
        if tensor is None or not self.recording or not tensor.requires_grad:
            return None
        self.inputs.append(tensor)
        self._watched.append(watched)
        return len(self.inputs) - 1

    def note(self, back: Back) -> None:
        """Note how the step just done is gone back."""
        if self.recording:
            self._back.append(back)

    def end(self) -> tuple[list[Back], list[Tensor], list[bool]]:
        """The ways back, the inputs, and which of them are watched; the tape keeps none, for they hold it."""
        ended = self._back, self.inputs, self._watched
        self._back, self.inputs, self._watched = [], [], []
        return ended


class Planes:
    """Planes of some channels, of every image of a batch.

    Args:
        tape: that notes what is done with them.
        size: height and width.
        rows: [channels, row], see models.native.training; without gaps where the tape is dense.
        buffer: that the rows lie in.

    Attributes:
        shared: the memory is read again, by a way back or by whom it came from.
        gradient: the same rows for the gradient, once there is one.
        still: [channels], bool: planes that are the same for every image; None where none is known to be.
    """

    def __init__(self, tape: Tape, size: tuple[int, int], rows: Tensor, buffer: Buffer | None = None) -> None:
        self.tape, self.size, self.rows, self._buffer = tape, size, rows, buffer
        self.shared = True
        self.gradient: Tensor | None = None
        self.still: Tensor | None = None
        self._gradient_buffer: Buffer | None = None
        self._whole: tuple[Planes, slice] | None = None

    @classmethod
    def empty(cls, tape: Tape, size: tuple[int, int], channels: int) -> Planes:
        """Planes that are still to be filled."""
        buffer = BUFFERS.take(channels, tape.batch * size[0] * size[1], tape.dtype)
        return cls(tape, size, buffer.rows, buffer)

    @classmethod
    def to_leave(cls, tape: Tape, size: tuple[int, int], channels: int) -> Planes:
        """Planes that are still to be filled and may leave; no way back reads them."""
        if tape.dense:
            planes = cls(tape, size, torch.empty(channels, tape.batch * size[0] * size[1], dtype=tape.dtype))
        else:
            planes = cls.empty(tape, size, channels)
        planes.shared = False
        return planes

    @property
    def channels(self) -> int:
        return len(self.rows)

    @property
    def positions(self) -> int:
        """Numbers of a plane."""
        return self.tape.batch * self.size[0] * self.size[1]

    @property
    def numbers(self) -> Tensor:
        """The rows without what lies between them: [channels, positions]."""
        return self.rows[:, : self.positions]

    def part(self, channels: slice) -> Planes:
        """The planes of some channels alone."""
        if range(self.channels)[channels] == range(self.channels):
            return self
        planes = Planes(self.tape, self.size, self.rows[channels], self._buffer)
        planes._whole = self, channels
        return planes

    def window(self, window: Window) -> Planes:
        """A copy of what lies within a window."""
        planes = Planes.to_leave(self.tape, window_size(window), self.channels)
        within(planes.rows, planes).copy_(within(self.rows, self, window))

        def back() -> None:
            if planes.gradient is None:
                return
            rows, filled = self.take_gradient()
            if not filled:
                rows.zero_()
            within(rows, self, window).add_(within(planes.gradient, planes))

        self.tape.note(back)
        return planes

    def take_gradient(self) -> tuple[Tensor, bool]:
        """Rows for the gradient, and whether they hold a part of it, which others are to be added to."""
        if self._whole is not None:
            whole, part = self._whole
            rows, filled = whole.take_gradient()
            if not filled:
                rows.zero_()
            self.gradient = rows[part]
            return self.gradient, filled
        if self.gradient is not None:
            return self.gradient, True
        if self.rows.shape[1] == self.positions:
            self.gradient = torch.empty(self.rows.shape, dtype=self.tape.dtype)
        else:
            self._gradient_buffer = BUFFERS.take(self.channels, self.positions, self.tape.dtype)
            self.gradient = self._gradient_buffer.rows
        return self.gradient, False

    def release(self) -> None:
        """Let go of the memory where no way back reads it; the gradient may still come."""
        if not self.shared:
            self.rows, self._buffer = torch.empty_like(self.rows, device="meta"), None


def window_size(window: Window) -> tuple[int, int]:
    """Height and width of a window."""
    top, bottom, left, right = window
    return bottom - top, right - left


def within(rows: Tensor, planes: Planes, window: Window | None = None) -> Tensor:
    """Rows that lie as those of planes, or a window of them, in the same memory: [channels, height, width, images]."""
    places = rows[:, : planes.positions].unflatten(1, (*planes.size, planes.tape.batch))
    if window is None:
        return places
    top, bottom, left, right = window
    return places[:, top:bottom, left:right]


def rows_of(images: Tensor) -> Tensor:
    """Images that lie as planes, as [channels, positions] in the same memory."""
    return images.permute(1, 2, 3, 0).reshape(images.shape[1], -1)


def images_of(rows: Tensor, size: tuple[int, int]) -> Tensor:
    """Rows [channels, positions] as images [batch, channels, height, width] in the same memory."""
    return rows.view(len(rows), *size, -1).permute(3, 0, 1, 2)


def lie_as_planes(images: Tensor) -> bool:
    """Whether a channel's numbers (y, x, image) follow one another in memory, and channels without gaps."""
    return images.permute(1, 2, 3, 0).is_contiguous()


def enter(images: Tensor) -> Planes:
    """The planes of images [batch, channels, height, width], which go on to nodes and sums; `leave` ends that.

    Images that lie as planes already are not copied.
    """
    data = images.detach()
    dense = lie_as_planes(data)
    tape = Tape(len(images), images.dtype, torch.is_grad_enabled(), dense)
    size = images.shape[2], images.shape[3]
    if dense:
        planes = Planes(tape, size, rows_of(data))
    else:
        data = data if training.places_adjoin(data) else data.contiguous()
        planes = Planes.empty(tape, size, images.shape[1])
        training.to_planes(data, planes.rows)
    place = tape.input(images, watched=dense)
    like = torch.empty_like(data, device="meta")

    def back() -> None:
        if place is None or planes.gradient is None:
            return
        if dense:
            tape.gradients[place] = images_of(planes.gradient, size)
        else:
            tape.gradients[place] = gradient = torch.empty_like(like, device="cpu")
            training.from_planes(planes.gradient, gradient)

    tape.note(back)
    return planes


def leave(planes: Planes) -> Tensor:
    """Planes as images [batch, channels, height, width], which lie as planes where those that entered did."""
    back, inputs, watched = planes.tape.end()
    return _Leave.apply(planes, back, watched, *inputs) if inputs else _images(planes)


def _images(planes: Planes) -> Tensor:
    if planes.tape.dense:
        return images_of(planes.numbers.clone() if planes.shared else planes.rows, planes.size)
    images = torch.empty(planes.tape.batch, planes.channels, *planes.size, dtype=planes.tape.dtype)
    training.from_planes(planes.rows, images)
    return images


class _Leave(torch.autograd.Function):
    """All that a tape did, as one function of its inputs."""

    @staticmethod
    def forward(ctx: Any, planes: Planes, back: list[Back], watched: list[bool], *inputs: Tensor) -> Tensor:
        ctx.planes, ctx.back, ctx.inputs = planes, back, len(inputs)
        ctx.save_for_backward(*(tensor for tensor, seen in zip(inputs, watched, strict=True) if seen))
        images = _images(planes)
        planes.release()
        return images

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        _ = ctx.saved_tensors  # raises an error where one was changed meanwhile
        planes, back = ctx.planes, ctx.back
        if not back:
            raise RuntimeError("Wired planes can be gone back through once: their memory is used by others afterwards.")
        if planes.tape.dense and not planes.shared:
            planes.gradient = rows_of(gradient).contiguous()  # nobody adds to it
        else:
            rows, filled = planes.take_gradient()
            assert not filled
            if planes.tape.dense:
                rows[:, : planes.positions] = rows_of(gradient)
            else:
                gradient = gradient if training.places_adjoin(gradient) else gradient.contiguous()
                training.to_planes(gradient, rows)
        while back:
            back.pop()()
        gradients, ctx.planes = planes.tape.gradients, None
        return None, None, None, *(gradients.get(place) for place in range(ctx.inputs))
