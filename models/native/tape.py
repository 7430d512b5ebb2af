"""Networks of wired channels forward and backward on the kernels of training: planes, their sources, and what was done.

A network enters the planes of its stem, runs nodes and sums over edges, and leaves with images. Until then a `Tape` notes
how each step is gone back; autograd sees all of it as one function of the images that entered and of every parameter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from models.native import training
from models.native.buffers import BUFFERS, Buffer
from models.native.training import Edges, NodeSpec, NormKind


class Tape:
    """What was done between entering and leaving, to be gone back.

    Args:
        recording: whether a gradient will be wanted.
    """

    def __init__(self, images: Tensor, recording: bool) -> None:
        self.images = images
        self.batch = len(images)
        self.dtype = images.dtype
        self.recording = recording
        self.parameters: list[Tensor] = []
        self.gradients: dict[int, Tensor] = {}
        self._back: list[Callable[[], None]] = []

    def parameter(self, tensor: Tensor | None) -> int | None:
        """The place of a tensor whose gradient is wanted, among all of them; None where none is."""
        if tensor is None or not self.recording or not tensor.requires_grad:
            return None
        self.parameters.append(tensor)
        return len(self.parameters) - 1

    def note(self, back: Callable[[], None]) -> None:
        """Note how the step just done is gone back."""
        if self.recording:
            self._back.append(back)

    def go_back(self) -> None:
        """Go back through all steps, forgetting each. Raises RuntimeError the second time."""
        if not self._back:
            raise RuntimeError("These planes have been gone back through already: their memory is used by others now.")
        while self._back:
            self._back.pop()()


class Planes:
    """Planes of some channels, of every image of a batch.

    Attributes:
        rows: [channels, row], see models.native.training.
        size: height and width.
        gradient: the same rows for the gradient, once there is one.
    """

    def __init__(self, tape: Tape, size: tuple[int, int], rows: Tensor, buffer: Buffer | None = None) -> None:
        self.tape, self.size, self.rows, self._buffer = tape, size, rows, buffer
        self.gradient: Tensor | None = None
        self._gradient_buffer: Buffer | None = None
        self._whole: tuple[Planes, slice] | None = None

    @classmethod
    def empty(cls, tape: Tape, size: tuple[int, int], channels: int) -> Planes:
        """Planes that are still to be filled."""
        buffer = BUFFERS.take(channels, tape.batch * size[0] * size[1], tape.dtype)
        return cls(tape, size, buffer.rows, buffer)

    @property
    def positions(self) -> int:
        """Numbers of a plane."""
        return self.tape.batch * self.size[0] * self.size[1]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """As images: batch, channels, height, width."""
        return self.tape.batch, len(self.rows), *self.size

    def last(self, channels: int) -> Planes:
        """The last channels alone."""
        part = slice(len(self.rows) - channels, len(self.rows))
        planes = Planes(self.tape, self.size, self.rows[part], self._buffer)
        planes._whole = self, part
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
        self._gradient_buffer = BUFFERS.take(len(self.rows), self.positions, self.tape.dtype)
        self.gradient = self._gradient_buffer.rows
        return self.gradient, False

    def forget_gradient(self) -> None:
        """Nobody needs the gradient any more."""
        self.gradient = self._gradient_buffer = None


def enter(images: Tensor) -> Planes:
    """The planes of images [batch, channels, height, width], which go on to nodes and sums; `leave` ends that."""
    tape = Tape(images, torch.is_grad_enabled())
    data = images.detach()
    data = data if training.places_adjoin(data) else data.contiguous()
    planes = Planes.empty(tape, (images.shape[2], images.shape[3]), images.shape[1])
    training.to_planes(data, planes.rows)
    place = tape.parameter(images)

    def back() -> None:
        if place is not None and planes.gradient is not None:
            tape.gradients[place] = gradient = torch.empty_like(data)
            training.from_planes(planes.gradient, gradient)

    tape.note(back)
    return planes


def leave(planes: Planes) -> Tensor:
    """Planes as images [batch, channels, height, width]."""
    tape = planes.tape
    images = torch.empty(planes.shape, dtype=tape.dtype)
    training.from_planes(planes.rows, images)
    if not tape.parameters:
        return images
    parameters, tape.parameters = tape.parameters, []
    del tape.images
    return _Leave.apply(planes, images, *parameters)


class _Leave(torch.autograd.Function):
    """All that a tape did, as one function of its parameters."""

    @staticmethod
    def forward(ctx: Any, planes: Planes, images: Tensor, *parameters: Tensor) -> Tensor:
        ctx.planes = planes
        ctx.save_for_backward(*parameters)  # so that autograd sees where they were changed meanwhile
        return images

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        planes, count = ctx.planes, len(ctx.saved_tensors)
        gradient = gradient if training.places_adjoin(gradient) else gradient.contiguous()
        rows, filled = planes.take_gradient()
        assert not filled
        training.to_planes(gradient, rows)
        planes.tape.go_back()
        gradients = planes.tape.gradients
        return None, None, *(gradients.get(place) for place in range(count))


@dataclass
class _Sum:
    """Sums of sources `first` on over edges, to planes of nodes."""

    nodes: Planes
    edges: Edges
    first: int


class Sources:
    """The planes that the edges of one graph start from.

    Args:
        tape: of the planes.
        size: height and width.
        columns: how many sources there will be.
    """

    def __init__(self, tape: Tape, size: tuple[int, int], columns: int) -> None:
        self.tape = tape
        self.planes = Planes.empty(tape, size, columns)
        self.filled = 0
        self._sums: list[_Sum] = []

    def grow(self, planes: Planes, norm: nn.Module | None, kernel: Tensor, stride: int = 1) -> None:
        """Add nodes: norm, ReLU and depthwise convolution of planes.

        Args:
            planes: a plane a node.
            norm: of as many channels; None for none.
            kernel: [nodes, 1, 3, 3].
            stride: of the convolution.
        """
        first, self.filled = self.filled, self.filled + len(planes.rows)
        node = _Node(self.tape, planes, norm, kernel, stride)
        node.forward(self.planes.rows[first : self.filled])
        last = self.filled

        def back() -> None:
            gradient = BUFFERS.take(last - first, self.planes.positions, self.tape.dtype)
            self._gather(gradient.rows, first)
            node.backward(gradient.rows)

        self.tape.note(back)

    def sum(self, weight: Tensor, first: int = 0, onto: Planes | None = None) -> Planes:
        """Planes of nodes: sums over the nonzero entries of `weight` [nodes, sources from `first` on].

        Args:
            weight: of the edges.
            first: the source that its first column is of.
            onto: planes of the nodes that the sums are added to, which stay as they are.
        """
        tape, positions = self.tape, self.planes.positions
        count = weight.shape[1]
        edges = Edges(weight.detach())
        nodes = Planes.empty(tape, self.planes.size, len(weight))
        sources = self.planes.rows[first : first + count]
        if onto is not None:
            nodes.rows.copy_(onto.rows)
        training.sum_over_edges(edges.to_nodes, sources, nodes.rows, positions, accumulate=onto is not None)
        place = tape.parameter(weight)
        self._sums.append(_Sum(nodes, edges, first))

        def back() -> None:
            if nodes.gradient is None:
                return
            if place is not None:
                tape.gradients[place] = nodes.gradient[:, :positions] @ sources[:, :positions].t()
            if onto is not None:
                rows, filled = onto.take_gradient()
                rows.add_(nodes.gradient) if filled else rows.copy_(nodes.gradient)

        tape.note(back)
        return nodes

    def _gather(self, gradient: Tensor, first: int) -> None:
        """The gradient of the sources from `first` on, as many as `gradient` has rows, from the sums that they are in."""
        accumulate = False
        for sum_ in self._sums:
            start, stop = max(first, sum_.first), min(first + len(gradient), sum_.first + sum_.edges.sources)
            if sum_.nodes.gradient is None or start >= stop:
                continue
            if not accumulate and (start > first or stop < first + len(gradient)):
                gradient.zero_()
                accumulate = True
            training.sum_over_edges(
                sum_.edges.to_sources,
                sum_.nodes.gradient,
                gradient[start - first : stop - first],
                self.planes.positions,
                first=start - sum_.first,
                accumulate=accumulate,
            )
            accumulate = True
        if not accumulate:
            gradient.zero_()


class _Node:
    """Norm, ReLU and depthwise convolution of planes, forward and back."""

    def __init__(
        self, tape: Tape, planes: Planes, norm: nn.Module | None, kernel: Tensor | None, stride: int, relu: bool = True
    ) -> None:
        self.tape, self.planes, self.relu, self.stride = tape, planes, relu, stride
        weight, bias = (None, None) if norm is None else (norm.weight, norm.bias)
        self.places = [tape.parameter(tensor) for tensor in (weight, bias, kernel)]
        self.weight, self.bias, self.kernel = (
            None if tensor is None else tensor.detach().contiguous() for tensor in (weight, bias, kernel)
        )
        self.kind, self.mean, self.deviation, self.variance = self._measures(norm)
        self.norm = norm
        self.epsilon = 0.0 if norm is None else norm.eps

    def _measures(self, norm: nn.Module | None) -> tuple[NormKind, Tensor | None, Tensor | None, Tensor | None]:
        channels, dtype = len(self.planes.rows), self.tape.dtype
        if norm is None:
            return NormKind.NONE, None, None, None
        if isinstance(norm, nn.InstanceNorm2d):
            mean, deviation = (torch.empty(channels, self.tape.batch, dtype=dtype) for _ in range(2))
            return NormKind.INSTANCE, mean, deviation, None
        if norm.training:
            mean, deviation, variance = (torch.empty(channels, dtype=dtype) for _ in range(3))
            return NormKind.BATCH, mean, deviation, variance
        return NormKind.FIXED, norm.running_mean, (norm.running_var + norm.eps).rsqrt(), None

    def _spec(self, beyond: Tensor, **more: Any) -> NodeSpec:
        height, width = self.planes.size
        rows = self.planes.rows
        pointers = {
            "input": rows,
            "gamma": self.weight,
            "beta": self.bias,
            "kernel": self.kernel,
            "mean": self.mean,
            "deviation": self.deviation,
            "variance": self.variance,
        }
        return NodeSpec(
            channels=len(rows),
            images=self.tape.batch,
            height=height,
            width=width,
            stride=self.stride,
            input_stride=rows.stride(0),
            output_stride=beyond.stride(0),
            norm=self.kind,
            relu=self.relu,
            threads=torch.get_num_threads(),
            epsilon=self.epsilon,
            **{name: None if tensor is None else tensor.data_ptr() for name, tensor in pointers.items()},
            **more,
        )

    def forward(self, output: Tensor) -> None:
        training.run_node(self._spec(output, output=output.data_ptr()), self.tape.dtype, backward=False)
        if self.kind is NormKind.BATCH:
            norm, count = self.norm, self.planes.positions
            assert norm is not None
            norm.num_batches_tracked.add_(1)
            norm.running_mean.lerp_(self.mean, norm.momentum)
            norm.running_var.lerp_(self.variance * (count / (count - 1)), norm.momentum)

    def backward(self, gradient: Tensor) -> None:
        wanted = (self.weight, self.bias, self.kernel)
        to_weight, to_bias, to_kernel = (None if tensor is None else torch.empty_like(tensor) for tensor in wanted)
        rows, filled = self.planes.take_gradient()
        spec = self._spec(
            gradient,
            accumulate=filled,
            gradient=gradient.data_ptr(),
            to_input=rows.data_ptr(),
            to_gamma=None if to_weight is None else to_weight.data_ptr(),
            to_beta=None if to_bias is None else to_bias.data_ptr(),
            to_kernel=None if to_kernel is None else to_kernel.data_ptr(),
        )
        training.run_node(spec, self.tape.dtype, backward=True)
        for place, tensor in zip(self.places, (to_weight, to_bias, to_kernel), strict=True):
            if place is not None and tensor is not None:
                self.tape.gradients[place] = tensor
