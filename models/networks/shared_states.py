"""Weighted sums along the edges of an acyclic graph, with every node's output and gradient in one buffer.

A stage of a randomly wired network sums the outputs of earlier nodes again and again. Written with autograd's own
operations, every edge reads and writes whole tensors several times a step. Here the outputs of the nodes lie side by
side in one buffer, so that all nodes of a level are summed in one batched product. Going backward a node pulls its
gradient from the nodes that it feeds, in one such product, and the gradient of its sum then takes the place of its
own output, which nothing needs any more: no second buffer, no accumulation.

Tokens, empty tensors that autograd hands on, put the backward calls in order.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

CACHED_ELEMENTS = 2**19
"""Elements of a product that stay in the cache of a CPU until they are copied."""
DENSE_SHARE = 0.4
"""Share of a rectangle's entries that are edges from which on one batched product beats an operation an edge."""


def keep_mask(like: Tensor, p: float) -> Tensor:
    """Zeros with probability `p`, else ones, uint8, in the shape and memory format of `like`.

    On a CPU from 16 random bits an element (p is rounded to 1/65536), a tenth of the time of Tensor.bernoulli_.
    """
    mask = torch.empty_like(like, dtype=torch.uint8)
    if like.device.type != "cpu":
        return mask.bernoulli_(1 - p)
    words = torch.empty(-(-like.numel() // 4), dtype=torch.int64)
    words.random_(torch.iinfo(torch.int64).min, None)
    lanes = words.view(torch.int16)[: like.numel()]
    kept = lanes >= round(p * 65536) - 32768
    return kept.view(torch.uint8).as_strided(like.shape, mask.stride())


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, p: float) -> Tensor:
        mask = keep_mask(x, p)
        ctx.save_for_backward(mask)
        ctx.scale = 1 / (1 - p)
        return torch.mul(x, mask).mul_(ctx.scale)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (mask,) = ctx.saved_tensors
        return torch.mul(gradient, mask).mul_(ctx.scale), None


def dropout(x: Tensor, p: float) -> Tensor:
    """Dropout with `keep_mask`: each element zero with probability `p`, the others scaled by 1/(1 - p)."""
    return _Dropout.apply(x, p) if p else x


@dataclass(frozen=True)
class NodeOrder:
    """The order in which a graph's nodes run. A slot is a place in that order.

    Attributes:
        levels: half-open ranges of slots whose nodes can run together; a range feeds only later ones.
        edges: pairs (from slot, to slot).
    """

    levels: tuple[tuple[int, int], ...]
    edges: frozenset[tuple[int, int]]

    @property
    def slots(self) -> int:
        return self.levels[-1][1]

    @cached_property
    def sources(self) -> tuple[tuple[int, ...], ...]:
        """The slots that feed each slot."""
        return self._by_first((end, start) for start, end in self.edges)

    @cached_property
    def targets(self) -> tuple[tuple[int, ...], ...]:
        """The slots that each slot feeds."""
        return self._by_first(self.edges)

    def _by_first(self, pairs: Iterable[tuple[int, int]]) -> tuple[tuple[int, ...], ...]:
        found: list[list[int]] = [[] for _ in range(self.slots)]
        for slot, other in sorted(pairs):
            found[slot].append(other)
        return tuple(map(tuple, found))

    def dense_in(self, level: int) -> bool:
        start, stop = self.levels[level]
        return sum(len(self.sources[slot]) for slot in range(start, stop)) >= DENSE_SHARE * (stop - start) * start

    def dense_out(self, level: int) -> bool:
        start, stop = self.levels[level]
        edges = sum(len(self.targets[slot]) for slot in range(start, stop))
        return edges >= DENSE_SHARE * (stop - start) * (self.slots - stop)


class _Buffer:
    """The rows [slots, batch, elements] of a graph's nodes: outputs, or going backward the gradients of sums that
    replaced them.

    Autograd's graph holds it, so that it must not hold anything of that graph: such a cycle would never be freed.
    """

    def __init__(self, plan: NodeOrder, dropout: float) -> None:
        self.plan, self.dropout = plan, dropout
        self.rows: Tensor | None = None

    def kept_rows(self) -> Tensor:
        if self.rows is None:
            raise RuntimeError("This stage keeps its nodes' outputs for one backward pass; run it forward again.")
        return self.rows

    def allocate(self, like: Tensor) -> None:
        batch, channels, height, width = like.shape
        self.channels_last = not like.is_contiguous()
        self._shape = (batch, height, width, channels) if self.channels_last else tuple(like.shape)
        self.rows = like.new_empty(self.plan.slots, batch, channels * height * width)

    def planes(self, row: Tensor) -> Tensor:
        """A row [batch, elements] as [batch, channels, height, width]."""
        planes = row.view(self._shape)
        return planes.permute(0, 3, 1, 2) if self.channels_last else planes


class SharedStates:
    """The outputs of a graph's nodes during one forward and one backward pass.

    Args:
        plan: the order of the nodes.
        weight: [1 or batch, slots, slots], entry (i, to, from): the weight of that edge for all images or for image i;
            zero where there is no edge.
        dropout: probability with which an element of a published output is dropped.
    """

    def __init__(self, plan: NodeOrder, weight: Tensor, dropout: float = 0.0) -> None:
        self.plan = plan
        # the factor of dropout belongs to the edges: outputs are stored as zero or as they are
        self.weight = weight / (1 - dropout) if dropout else weight
        self._buffer = _Buffer(plan, dropout)
        self._tokens: list[Tensor] = []

    def publish(self, outputs: Sequence[Tensor]) -> None:
        """Keep the outputs [batch, channels, height, width] of the next level's nodes."""
        level = len(self._tokens)
        start, stop = self.plan.levels[level]
        to_later = self.weight[:, stop:, start:stop]
        self._tokens.append(_Publish.apply(self._buffer, level, to_later, *outputs))

    def collect(self) -> tuple[Tensor, ...]:
        """For each node of the next level the ReLU of the weighted sum of its inputs, as `publish` takes them."""
        level = len(self._tokens)
        start, stop = self.plan.levels[level]
        return _Collect.apply(self._buffer, level, self.weight[:, start:stop, :start].detach(), *self._tokens)


def _sums(weight: Tensor, rows: Tensor, sources: Sequence[Sequence[int]] | None) -> list[Tensor]:
    """For each line n of `weight` [1 or batch, N, M] the sum of weight[:, n, m] * rows[m] [batch, elements].

    `sources` names the m that count for each n; None stands for all, in batched products.
    """
    if sources is None:
        return _dense_sums(weight.expand(rows.shape[1], -1, -1), rows)
    sums = []
    for n, chosen in enumerate(sources):
        total = rows[chosen[0]] * weight[:, n, chosen[0], None]
        for m in chosen[1:]:
            total.addcmul_(rows[m], weight[:, n, m, None])
        sums.append(total)
    return sums


def _dense_sums(weight: Tensor, rows: Tensor) -> list[Tensor]:
    lines = weight.shape[1]
    _, batch, elements = rows.shape
    sums = [rows.new_empty(batch, elements) for _ in range(lines)]
    # so few images at a time on a CPU that their product stays in the cache until it is copied to its places
    images = max(1, CACHED_ELEMENTS // (lines * elements)) if rows.device.type == "cpu" else batch
    for start in range(0, batch, images):
        part = slice(start, start + images)
        product = torch.bmm(weight[part], rows[:, part].transpose(0, 1))
        for n, total in enumerate(sums):
            total[part].copy_(product[:, n])
    return sums


def _products(left: Tensor, right: Tensor, pairs: Sequence[tuple[int, int]] | None, per_image: bool) -> Tensor:
    """Inner products of left [L, batch, elements] and right [R, batch, elements]: [batch, L, R], or [1, L, R] in all.

    Only those of `pairs`, the others zero; None stands for all.
    """
    if pairs is None:
        products = torch.bmm(left.transpose(0, 1), right.permute(1, 2, 0))
        return products if per_image else products.sum(0, keepdim=True)
    products = left.new_zeros(left.shape[1] if per_image else 1, len(left), len(right))
    for i, j in pairs:
        if per_image:
            products[:, i, j] = torch.bmm(left[i][:, None], right[j][:, :, None]).view(-1)
        else:
            products[0, i, j] = torch.dot(left[i].view(-1), right[j].view(-1))
    return products


class _Publish(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, buffer: _Buffer, level: int, weight: Tensor, *outputs: Tensor) -> Tensor:
        if buffer.rows is None:
            buffer.allocate(outputs[0])
        ctx.buffer, ctx.level, ctx.masks = buffer, level, []
        ctx.save_for_backward(weight)
        rows = buffer.kept_rows()
        for slot, output in zip(range(*buffer.plan.levels[level]), outputs, strict=True):
            place = buffer.planes(rows[slot])
            if buffer.dropout:
                ctx.masks.append(keep_mask(output, buffer.dropout))
                torch.mul(output, ctx.masks[-1], out=place)
            else:
                place.copy_(output)
        return outputs[0].new_empty(0)

    @staticmethod
    def backward(ctx: Any, _: Tensor) -> tuple[Tensor | None, ...]:
        buffer, plan = ctx.buffer, ctx.buffer.plan
        start, stop = plan.levels[ctx.level]
        (weight,) = ctx.saved_tensors
        sources = pairs = None
        if not plan.dense_out(ctx.level):
            sources = [[to - stop for to in plan.targets[slot]] for slot in range(start, stop)]
            pairs = [(to, n) for n, targets in enumerate(sources) for to in targets]
        rows = buffer.kept_rows()
        own, later = rows[start:stop], rows[stop:]
        gradients = _sums(weight.to(own.dtype).transpose(1, 2), later, sources)
        to_weight = None
        if ctx.needs_input_grad[2]:
            to_weight = _products(later, own, pairs, per_image=len(weight) > 1).to(weight.dtype)
        planes = [buffer.planes(gradient) for gradient in gradients]
        for plane, mask in zip(planes, ctx.masks, strict=False):
            plane.mul_(mask)
        if ctx.level == 0:
            buffer.rows = None
        return None, None, to_weight, *planes


class _Collect(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, buffer: _Buffer, level: int, weight: Tensor, *tokens: Tensor) -> tuple[Tensor, ...]:
        start, stop = buffer.plan.levels[level]
        sources = None if buffer.plan.dense_in(level) else buffer.plan.sources[start:stop]
        rows = buffer.kept_rows()
        sums = _sums(weight.to(rows.dtype), rows[:start], sources)
        ctx.buffer, ctx.level, ctx.tokens = buffer, level, len(tokens)
        outputs = tuple(buffer.planes(total.relu_()) for total in sums)
        ctx.save_for_backward(*outputs)
        return outputs

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        buffer = ctx.buffer
        start, _ = buffer.plan.levels[ctx.level]
        rows = buffer.kept_rows()
        for i, (gradient, output) in enumerate(zip(gradients, ctx.saved_tensors, strict=True)):
            place = buffer.planes(rows[start + i])
            torch.ops.aten.threshold_backward.grad_input(gradient, output, 0, grad_input=place)
        token = gradients[0].new_empty(0)
        return None, None, None, *([token] * ctx.tokens)
