"""Randomly wired networks (Xie, Kirillov, Girshick, He 2019, arXiv 1904.01569), in all their published regimes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial, reduce
from itertools import pairwise
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.networks import randwire_forms
from models.networks.node_graphs import NodeGraph
from models.networks.random_graphs import StageGraph, draw_stages, from_text, to_files
from models.networks.randwire_regimes import Regime, make_regime, random_stages
from models.networks.shared_states import NodeOrder, SharedStates, dropout
from models.sparse.graph import ChannelGraph
from models.wirings.fixed import Random
from models.wirings.graph import Graph
from models.wirings.layout import Block, EdgeLayout
from models.wirings.registry import complete_options, make_wiring
from models.wirings.selection import keep_largest
from models.wirings.wiring import Wiring

CLASSIFIER_CHANNELS = 1280


class SeparableConv(nn.Sequential):
    """3x3 depthwise conv, 1x1 conv; the bias, if any, behind the second."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, bias: bool) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(in_channels, in_channels, 3, stride, 1, groups=in_channels, bias=False)
        self.pointwise = nn.Conv2d(in_channels, out_channels, 1, bias=bias)


class Node(nn.Sequential):
    """Separable conv, BN; the ReLU before them belongs to the sum of the node's inputs."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, bias: bool) -> None:
        super().__init__()
        self.conv = SeparableConv(in_channels, out_channels, stride, bias)
        self.norm = nn.BatchNorm2d(out_channels)


class RandomStage(nn.Module):
    """Nodes wired by a graph: each sums its weighted inputs, then ReLU, 3x3 separable conv, BN.

    Input [batch, in_channels, height, width]; output [batch, out_channels, ceil(height/stride), ceil(width/stride)].
    Weights of edges are sigmoids of learned scalars, a single input's is 1. With a `wiring` the graph's edges are only
    possible ones: their weights are those of a `Graph`, and its rule decides which act.

    Args:
        graph: the nodes and their edges.
        in_channels, out_channels, stride: of the stage; the nodes without predecessors carry the stride.
        regime: see `Regime`.
        wiring: makes the rule that chooses among the edges of a layout; None: all act.

    Attributes:
        execution: "shared" keeps the nodes' outputs in one buffer while gradients are recorded (`SharedStates`); "node"
            runs node by node with autograd's own operations, as evaluation does in any case. Same results.
    """

    nodes: nn.ModuleList
    edges: Tensor
    at: Tensor
    single: Tensor

    def __init__(
        self,
        graph: StageGraph,
        in_channels: int,
        out_channels: int,
        stride: int,
        regime: Regime,
        wiring: Callable[[EdgeLayout], Wiring] | None = None,
    ) -> None:
        super().__init__()
        self.graph = graph
        self.regime = regime
        self.execution: Literal["shared", "node"] = "shared"
        inputs, outputs = set(graph.inputs), set(graph.outputs)
        widening = inputs if regime.widen == "inputs" else outputs
        inner = out_channels if regime.widen == "inputs" else in_channels
        self.nodes = nn.ModuleList(
            Node(
                in_channels if node in inputs else inner,
                out_channels if node in widening else inner,
                stride if node in inputs else 1,
                regime.bias,
            )
            for node in range(graph.nodes)
        )
        self.order, self.plan = _plan(graph, regime.node_inputs)
        self.register_buffer("edges", torch.tensor(graph.edges, dtype=torch.int64).reshape(-1, 2))
        self._index_edges()
        if wiring is None:
            self.edge_weight = nn.Parameter(torch.zeros(self.weighted)) if self.weighted else None
        else:
            if regime.node_inputs == "ancestors":
                raise ValueError("A learned wiring chooses a node's predecessors; node_inputs cannot be 'ancestors'.")
            layout = learned_layout(graph)
            self.wired = Graph(layout, wiring(layout))
            self._connect_every_node()

    def _index_edges(self) -> None:
        """Where the weights go in the matrix [to slot, from slot], in the order of the nodes' numbers."""
        node_edges = sorted((self.order[to], self.order[start]) for start, to in self.plan.edges)
        slot = {node: place for place, node in enumerate(self.order)}
        at = [(slot[to], slot[start]) for to, start in node_edges]
        single = [len(self.plan.sources[to]) == 1 for to, _ in at]
        self.register_buffer("at", torch.tensor(at, dtype=torch.int64).reshape(-1, 2), persistent=False)
        self.register_buffer("single", torch.tensor(single, dtype=torch.bool), persistent=False)
        self.weighted = single.count(False)

    @torch.no_grad()
    def _connect_every_node(self) -> None:
        """Give each node's strongest incoming and outgoing edge a weight that keeps it at first.

        A node that nothing feeds sums to 0, where the ReLU has no gradient that could ever feed it. A random part of
        the edges is those that learning would start from, for the weights are random.
        """
        weight = self.wired.weight
        strength = self.wired.layout.to_matrix(weight.abs())
        kept = strength.new_zeros(strength.shape)
        fed, feeding = strength.sum(1) > 0, strength.sum(0) > 0
        kept[torch.arange(len(kept))[fed], strength.argmax(1)[fed]] = 1
        kept[strength.argmax(0)[feeding], torch.arange(len(kept))[feeding]] = 1
        weight.mul_(1 + self.wired.layout.from_matrix(kept) * (weight.abs().max() / weight.abs()))
        wiring = self.wired.wiring
        if isinstance(wiring, Random):
            wiring.mask.copy_(keep_largest(weight, wiring.kept))
        else:
            wiring.start(weight)

    def edge_weights(self) -> Tensor:
        """Weight of every edge, sorted by the node it ends in, then by the one it starts from."""
        if hasattr(self, "wired"):
            return self.wired.wiring(self.wired.weight)
        ones = next(self.nodes.parameters()).new_ones(len(self.single))
        if self.edge_weight is None:
            return ones
        return ones.masked_scatter(~self.single, torch.sigmoid(self.edge_weight))

    def _weight_matrix(self, batch: int) -> Tensor:
        """[1 or batch, to slot, from slot], edges dropped for each image where the regime says so.

        A node's only input is never dropped.
        """
        weights = self.edge_weights()
        matrix = weights.new_zeros(len(self.order), len(self.order)).index_put(tuple(self.at.t()), weights)[None]
        if not (self.training and self.regime.drop_edge):
            return matrix
        chance = matrix.new_full(matrix.shape, self.regime.drop_edge)
        chance[0, self.at[self.single, 0], self.at[self.single, 1]] = 0
        return matrix * (torch.rand(batch, *matrix.shape[1:], device=matrix.device) >= chance) / (1 - chance)

    def forward(self, x: Tensor) -> Tensor:
        weight = self._weight_matrix(len(x))
        rate = self.regime.dropout if self.training else 0.0
        run = self._shared if self.execution == "shared" and torch.is_grad_enabled() else self._node_by_node
        ends = run(F.relu(x), weight, rate)
        total = ends[0]
        for end in ends[1:]:
            total = total + end
        return total / len(ends) if self.regime.stage_output == "mean" else total

    def _shared(self, x: Tensor, weight: Tensor, rate: float) -> list[Tensor]:
        states = SharedStates(self.plan, weight, rate)
        inputs: Sequence[Tensor] = [x] * len(self.graph.inputs)
        for start, stop in self.plan.levels:
            outputs = [self.nodes[self.order[slot]](y) for slot, y in zip(range(start, stop), inputs, strict=True)]
            if stop < self.plan.slots:
                states.publish(outputs)
                inputs = states.collect()
        return [dropout(output, rate) for output in outputs]

    def _node_by_node(self, x: Tensor, weight: Tensor, rate: float) -> list[Tensor]:
        states: dict[int, Tensor] = {}
        waiting = [len(targets) for targets in self.plan.targets]
        acting = None
        if hasattr(self, "wired") and not torch.is_grad_enabled():
            acting = (weight != 0).any(dim=0).tolist()
        for slot, node in enumerate(self.order):
            sources: Sequence[int] = self.plan.sources[slot]
            if acting is not None:  # of learned edges; a node that has lost all of them keeps one of weight 0
                sources = [i for i in sources if acting[slot][i]] or sources[:1]
            if not sources:
                inputs = x
            else:
                weighted = (states[i] * weight[:, slot, i, None, None, None].to(x.dtype) for i in sources)
                inputs = F.relu(reduce(torch.add, weighted))
            states[slot] = dropout(self.nodes[node](inputs), rate)
            for i in self.plan.sources[slot]:
                waiting[i] -= 1
                if not waiting[i]:
                    del states[i]
        return list(states.values())

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        stored = state_dict.get(f"{prefix}edges")
        if stored is not None and not torch.equal(stored.cpu(), self.edges.cpu()):
            raise ValueError(
                f"The weights of {prefix[:-1]} belong to another graph: {len(stored)} edges there, "
                f"{len(self.edges)} here, and not the same ones."
            )
        super()._load_from_state_dict(state_dict, prefix, *args)


def _plan(graph: StageGraph, node_inputs: str) -> tuple[tuple[int, ...], NodeOrder]:
    """Nodes in the order in which they run, and the plan of their slots; nodes that feed none run last, together."""
    last = set(graph.outputs) if graph.nodes > 1 else set()
    levels = [[node for node in level if node not in last] for level in graph.levels]
    levels = [level for level in [*levels, sorted(last)] if level]
    order = tuple(node for level in levels for node in level)
    slot = {node: place for place, node in enumerate(order)}
    ends = [0]
    for level in levels:
        ends.append(ends[-1] + len(level))
    edges = graph.edges if node_inputs == "predecessors" else graph.closure
    return order, NodeOrder(tuple(pairwise(ends)), frozenset((slot[u], slot[v]) for u, v in edges))


def learned_layout(graph: StageGraph) -> EdgeLayout:
    """The possible edges of a complete graph as the blocks of a matrix [nodes, nodes], a row a node.

    Raises ValueError where there are no edges, or a node's predecessors are not the nodes from 0 on, without a gap.
    """
    if not graph.edges:
        raise ValueError("A learned wiring chooses among edges; a graph of 1 node has none.")
    predecessors: dict[int, list[int]] = {}
    for u, v in graph.edges:
        predecessors.setdefault(v, []).append(u)
    for node, found in predecessors.items():
        if found != list(range(len(found))):
            raise ValueError(f"A learned wiring starts from a complete graph; node {node} is fed by {found} alone.")
    blocks = tuple(Block(v, v + 1, 0, len(found)) for v, found in sorted(predecessors.items()))
    return EdgeLayout(graph.nodes, graph.nodes, blocks)


class RandWire(nn.Module):
    """A randomly wired network. Input [batch, in_channels, height, width], output [batch, output_size].

    conv1: 3x3 conv to C/2, BN. conv2, where the regime has one: ReLU, 3x3 conv to C, BN. Random stages to C, 2C, 4C, ….
    Classifier: ReLU, 1x1 conv to 1280, BN, global average pool, dropout, linear.

    Args:
        graphs: one for each random stage.
        regime: the regime with whatever was changed in it.
        output_size: classes.
        in_channels: channels of the images.
        wiring: see `RandomStage`.

    Raises:
        ValueError: the number of graphs is not that of the random stages.
    """

    def __init__(
        self,
        graphs: Sequence[StageGraph],
        regime: Regime,
        output_size: int,
        in_channels: int = 3,
        wiring: Callable[[EdgeLayout], Wiring] | None = None,
    ) -> None:
        super().__init__()
        if len(graphs) != random_stages(regime):
            raise ValueError(f"There are {random_stages(regime)} random stages and {len(graphs)} graphs.")
        self.regime = regime
        self.conv1 = _stem(in_channels, regime.channels // 2, 2 if regime.init_subsample else 1, regime)
        if not (regime.stem_norm or regime.init_subsample):
            self.conv1 = self.conv1[:1]
        self.conv2 = nn.Sequential()
        width = regime.channels // 2
        if regime.conv2_stride:
            self.conv2 = nn.Sequential(nn.ReLU(), *_stem(width, regime.channels, regime.conv2_stride, regime))
            width = regime.channels
        self.stages = nn.Sequential()
        for i, graph in enumerate(graphs):
            out = regime.channels * 2**i
            self.stages.append(RandomStage(graph, width, out, regime.first_stride if i == 0 else 2, regime, wiring))
            width = out
        self.conv_last = nn.Conv2d(width, CLASSIFIER_CHANNELS, 1, bias=regime.bias)
        self.norm_last = nn.BatchNorm2d(CLASSIFIER_CHANNELS)
        self.linear = nn.Linear(CLASSIFIER_CHANNELS, output_size)

    @property
    def graphs(self) -> tuple[StageGraph, ...]:
        return tuple(stage.graph for stage in self.stages if isinstance(stage, RandomStage))

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type == "cpu":
            x = x.contiguous(memory_format=torch.channels_last)
        x = self.stages(self.conv2(self.conv1(x)))
        x = self.norm_last(self.conv_last(F.relu(x))).mean(dim=(2, 3))
        return self.linear(F.dropout(x, self.regime.classifier_dropout, self.training))

    @property
    def image_size(self) -> int:
        """That the regime was published for: ImageNet's where the stem halves the images, else CIFAR's."""
        return 224 if self.regime.init_subsample else 32

    def node_graphs(self) -> dict[str, NodeGraph]:
        """As `models.networks.randwire_forms.stage_graphs`."""
        return randwire_forms.stage_graphs(self)

    def plain_form(self) -> nn.Module:
        """As `models.networks.randwire_forms.PlainRandWire`."""
        return randwire_forms.PlainRandWire(self)

    def whole_graph(self) -> ChannelGraph:
        """As `models.networks.randwire_forms.whole_graph`."""
        return randwire_forms.whole_graph(self)

    def files(self) -> dict[str, str]:
        """The graphs of the stages as adjacency lists: graphs/dag_0.txt, graphs/dag_1.txt, ...."""
        return {f"graphs/{name}": text for name, text in to_files(self.graphs).items()}


def drawn_graphs(regime: Regime, model: str, parameters: Sequence[float], seed: int) -> tuple[StageGraph, ...]:
    """The graphs of a regime's random stages, drawn (`draw_stages`)."""
    halved = [regime.halve_first and stage == 0 for stage in range(random_stages(regime))]
    return draw_stages(model, parameters, seed, halved)


def randwire(
    classes: int = 10,
    in_channels: int = 3,
    regime: str = "small",
    channel_count: int | None = None,
    stages: int | None = None,
    graph_model: str = "ws",
    graph_param: Sequence[float] = (32, 4, 0.75),
    graph_seed: int | None = None,
    stage_graphs: Sequence[str] = (),
    wiring: str = "complete",
    prune_rate: float = 0.0,
    init_subsample: bool | None = None,
    separable_stem: bool | None = None,
    node_inputs: str | None = None,
    stage_output: str | None = None,
    widen: str | None = None,
    dropout_rate: float | None = None,
    drop_edge: float | None = None,
    classifier_dropout: float | None = None,
    **options: Any,
) -> RandWire:
    """A randomly wired network by the names of its settings.

    Args:
        classes: outputs.
        in_channels: of the images.
        regime: a name in REGIMES.
        channel_count, stages: C and the last stage's number, where not the regime's.
        graph_model, graph_param, graph_seed: see `draw_stages`; the seed is 0 where absent.
        stage_graphs: adjacency lists to use instead, one for each random stage.
        wiring, prune_rate: the rule that keeps some of the edges of complete graphs.
        init_subsample to classifier_dropout: fields of `Regime`; None leaves the regime's value.
        options: of the rule, by their names.

    Raises:
        ValueError: an unknown name, impossible graphs, a rule without complete graphs, or an option that the rule does
            not take.
    """
    own = make_regime(
        regime,
        channels=channel_count,
        stages=stages,
        init_subsample=init_subsample,
        separable=separable_stem,
        node_inputs=node_inputs,
        stage_output=stage_output,
        widen=widen,
        dropout=dropout_rate,
        drop_edge=drop_edge,
        classifier_dropout=classifier_dropout,
    )
    if stage_graphs:
        graphs = tuple(from_text(text, source=f"stage graph {i}") for i, text in enumerate(stage_graphs))
    else:
        graphs = drawn_graphs(own, graph_model, graph_param, graph_seed or 0)
    rule = partial(make_wiring, wiring, prune_rate=prune_rate, **complete_options(wiring, options))
    return RandWire(graphs, own, classes, in_channels, None if wiring == "complete" else rule)


def _stem(in_channels: int, out_channels: int, stride: int, regime: Regime) -> nn.Sequential:
    if regime.separable:
        conv: nn.Module = SeparableConv(in_channels, out_channels, stride, regime.bias)
    else:
        conv = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=regime.bias)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels))
