"""Nodes and sums over edges on planes, forward, and how they are gone back: what wired networks are made of."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from models.native import training
from models.native.buffers import BUFFERS
from models.native.products import product_over_planes, rounding_pays
from models.native.tape import Planes, Tape, Window, window_size, within
from models.native.training import Edges, NodeSpec, NormKind, Reached, Term

Norm = nn.BatchNorm2d | nn.InstanceNorm2d


@dataclass
class _Sum:
    """Sums of sources `first` on over edges, to planes of nodes; of a window of the sources, where there is one."""

    nodes: Planes
    edges: Edges
    first: int
    window: Window | None = None

    @property
    def stop(self) -> int:
        return self.first + self.edges.sources


class Sources:
    """The planes that the edges of one graph start from.

    Args:
        tape: of the planes.
        size: height and width.
        columns: how many sources there will be.
        reached: asked on the way back which entries of the weights need a gradient.
    """

    def __init__(
        self, tape: Tape, size: tuple[int, int], columns: int, reached: Callable[[], Reached] = lambda: Reached.ALL
    ) -> None:
        self.tape = tape
        self.planes = Planes.empty(tape, size, columns)
        self.filled = 0
        self._still = torch.zeros(columns, dtype=torch.bool)
        self._sums: list[_Sum] = []
        self._rounded: Tensor | None = None
        self._ask_reached = reached

    @cached_property
    def _reached(self) -> Reached:
        return self._ask_reached()

    def grow(self, planes: Planes, norm: Norm | None, kernel: Tensor, stride: int = 1) -> None:
        """Add nodes: norm, ReLU and depthwise convolution of planes.

        Args:
            planes: a plane a node.
            norm: of as many channels; None for none.
            kernel: [nodes, 1, 3, 3].
            stride: of the convolution.
        """
        first, last = self.filled, self.filled + planes.channels
        self.filled = last
        weight, bias = (None, None) if norm is None else (norm.weight, norm.bias)
        node = _Node(planes, norm, weight, bias, kernel, stride)
        node.forward(self.planes.rows[first:last])
        if planes.still is not None:
            self._still[first:last] = planes.still

        def back() -> None:
            gradient = BUFFERS.take(last - first, self.planes.positions, self.tape.dtype)
            self._gather(gradient.rows, first)
            node.backward(gradient.rows)

        self.tape.note(back)

    def sum(self, weight: Tensor, first: int = 0, onto: Planes | None = None, window: Window | None = None) -> Planes:
        """Planes of nodes: sums over the nonzero entries of `weight` [nodes, sources from `first` on].

        Args:
            weight: of the edges.
            first: the source that its first column is of.
            onto: planes of the nodes that the sums are added to, which stay as they are.
            window: of the sources, that the planes of the nodes are alone of; all where None.
        """
        tape, count = self.tape, weight.shape[1]
        edges = _edges_of(weight)
        sources = self._within(slice(first, first + count), window)
        positions = sources.positions
        nodes = Planes.empty(tape, sources.size, len(weight))
        if onto is not None:
            nodes.numbers.copy_(onto.numbers)
        terms = [Term(edges.to_nodes, sources.rows)]
        training.sum_over_edges(terms, nodes.rows, positions, accumulate=onto is not None)
        if onto is None:
            nodes.still = edges.to_nodes.unreached
        place = tape.input(weight)
        self._sums.append(_Sum(nodes, edges, first, window))

        def back() -> None:
            if nodes.gradient is None:
                return
            if place is not None:
                given = nodes.gradient[:, :positions]
                few = edges.few_reached(self._reached)
                if few is not None:
                    tape.gradients[place] = training.product_at_edges(few, given, sources.numbers)
                else:
                    still = self._still[first : first + count]
                    rounded = self._in_bfloat16(first, sources, window) if rounding_pays(tape.dtype) else None
                    tape.gradients[place] = product_over_planes(given, sources.numbers, tape.batch, still, rounded)
            if onto is not None:
                rows, filled = onto.take_gradient()
                given, taken = nodes.gradient[:, :positions], rows[:, :positions]
                taken.add_(given) if filled else taken.copy_(given)

        tape.note(back)
        return nodes

    def _within(self, sources: slice, window: Window | None) -> Planes:
        """The planes of some sources, or what lies within a window of them."""
        planes = self.planes.part(sources)
        if window is None:
            return planes
        copies = Planes.empty(self.tape, window_size(window), planes.channels)
        within(copies.rows, copies).copy_(within(planes.rows, planes, window))
        return copies

    def _in_bfloat16(self, first: int, sources: Planes, window: Window | None) -> Tensor:
        """The numbers of some sources in bfloat16, from one copy of all sources unless it is of a window alone."""
        if window is not None:
            return sources.numbers.to(torch.bfloat16)
        if self._rounded is None:
            self._rounded = self.planes.numbers.to(torch.bfloat16)
        return self._rounded[first : first + sources.channels]

    def _gather(self, gradient: Tensor, first: int) -> None:
        """The gradient of the sources from `first` on, as many as there are rows, from the sums that they are in."""
        last = first + len(gradient)
        reached = [
            (Term(sum_.edges.to_sources, sum_.nodes.gradient, max(first - sum_.first, 0)), sum_)
            for sum_ in self._sums
            if sum_.nodes.gradient is not None and sum_.first < last and first < sum_.stop
        ]
        whole = [term for term, sum_ in reached if sum_.window is None and sum_.first <= first and last <= sum_.stop]
        if whole:
            training.sum_over_edges(whole, gradient, self.planes.positions)
        else:
            gradient.zero_()
        for term, sum_ in reached:
            if any(term is other for other in whole):
                continue
            part = gradient[max(sum_.first - first, 0) : sum_.stop - first]
            if sum_.window is None:
                training.sum_over_edges([term], part, self.planes.positions, accumulate=True)
            else:
                summed = Planes.empty(self.tape, sum_.nodes.size, len(part))
                training.sum_over_edges([term], summed.rows, summed.positions)
                within(part, self.planes, sum_.window).add_(within(summed.rows, summed))


_known_edges: MutableMapping[Tensor, tuple[int, Edges]] = WeakIdKeyDictionary()


def _edges_of(weight: Tensor) -> Edges:
    """The edges of a weight, listed once for all the steps in time that it is used in."""
    if weight.is_inference():  # it has no version
        return Edges(weight)
    version, edges = _known_edges.get(weight, (-1, None))
    if edges is None or version != weight._version:
        edges = Edges(weight.detach())
        _known_edges[weight] = weight._version, edges
    return edges


def normalized(planes: Planes, norm: Norm, channels: slice = slice(None), relu: bool = False) -> Planes:
    """The norm of planes, and their ReLU where asked for.

    Args:
        planes: of some channels of the norm.
        norm: an instance norm where there are fewer than all.
        channels: which.
        relu: as well.
    """
    tape = planes.tape
    node = _Node(planes, norm, norm.weight[channels], norm.bias[channels], None, relu=relu)
    result = Planes.to_leave(tape, planes.size, planes.channels)
    node.forward(result.rows)

    def back() -> None:
        if result.gradient is not None:
            node.backward(result.gradient)

    tape.note(back)
    return result


class _Node:
    """Norm, ReLU and depthwise convolution of planes, forward and back.

    Args:
        planes: what goes in.
        norm: None for none.
        weight, bias: of the norm, [channels]; None for none.
        kernel: [channels, 1, 3, 3]; None for no convolution.
        stride: of the convolution.
        relu: or none.
    """

    def __init__(
        self,
        planes: Planes,
        norm: Norm | None,
        weight: Tensor | None,
        bias: Tensor | None,
        kernel: Tensor | None,
        stride: int = 1,
        relu: bool = True,
    ) -> None:
        self.planes, self.tape, self.relu, self.stride = planes, planes.tape, relu, stride
        planes.shared = True  # the way back reads them
        self.places = [self.tape.input(tensor) for tensor in (weight, bias, kernel)]
        self.weight, self.bias, self.kernel = (
            None if tensor is None else tensor.detach().contiguous() for tensor in (weight, bias, kernel)
        )
        self.kind, self.mean, self.deviation, self.variance = self._measures(norm)
        self.norm = norm
        self.epsilon = 0.0 if norm is None else norm.eps

    def _measures(self, norm: Norm | None) -> tuple[NormKind, Tensor | None, Tensor | None, Tensor | None]:
        channels, batch, dtype = self.planes.channels, self.tape.batch, self.tape.dtype
        if norm is None:
            return NormKind.NONE, None, None, None
        instance = isinstance(norm, nn.InstanceNorm2d)
        if (instance or norm.training) and self.planes.positions == (batch if instance else 1):
            raise ValueError(f"A norm needs more than one value a channel, not planes of {self.planes.size}.")
        if instance:
            mean, deviation = (torch.empty(channels, batch, dtype=dtype) for _ in range(2))
            return NormKind.INSTANCE, mean, deviation, None
        if norm.training:
            mean, deviation, variance = (torch.empty(channels, dtype=dtype) for _ in range(3))
            return NormKind.BATCH, mean, deviation, variance
        assert norm.running_mean is not None
        assert norm.running_var is not None
        return NormKind.FIXED, norm.running_mean.clone(), (norm.running_var + norm.eps).rsqrt(), None

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
            self._follow()

    def _follow(self) -> None:
        """Let the running statistics follow those of the batch."""
        norm, mean, variance, count = self.norm, self.mean, self.variance, self.planes.positions
        assert norm is not None
        assert norm.num_batches_tracked is not None
        assert norm.running_mean is not None
        assert norm.running_var is not None
        assert norm.momentum is not None
        assert mean is not None
        assert variance is not None
        norm.num_batches_tracked.add_(1)
        norm.running_mean.lerp_(mean, norm.momentum)
        norm.running_var.lerp_(variance * (count / (count - 1)), norm.momentum)

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
