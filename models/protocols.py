"""What a network may tell of itself. Shared code asks for these and knows no network; a network has any or none.

A class has what it defines: it need not name the protocol. Methods leave the network as it is, and may assume that it
is in evaluation mode and that no gradients are recorded (`models.inspection.evaluating`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from torch import nn

if TYPE_CHECKING:
    from models.networks.node_graphs import NodeGraph
    from models.sparse.graph import ChannelGraph


@runtime_checkable
class HasChannelGraph(Protocol):
    """A layer that computes the sums of one channel graph, wherever it stands in a network."""

    def channel_graph(self) -> ChannelGraph: ...


@runtime_checkable
class HasChannelGraphs(Protocol):
    """A network whose wired part is not just wired layers of their own."""

    def channel_graphs(self) -> dict[str, ChannelGraph]:
        """The graphs by the names of the modules that they compute; "" is the network from the image to the logits."""
        ...


@runtime_checkable
class HasNodeGraphs(Protocol):
    """A network whose wiring lies between nodes that are more than channels."""

    def node_graphs(self) -> dict[str, NodeGraph]:
        """The graphs by the names of the modules that compute them, in the order of computation."""
        ...


@runtime_checkable
class HasPlainForm(Protocol):
    """A network that exporters cannot follow as it is: a branch of it depends on a tensor."""

    def plain_form(self) -> nn.Module:
        """A module that computes the same in evaluation, without such a branch; it may share the network's layers."""
        ...


@runtime_checkable
class HasWholeGraph(Protocol):
    """A network that engines run in another way, but that can be written as a channel graph."""

    def whole_graph(self) -> ChannelGraph:
        """From the image to the logits."""
        ...


@runtime_checkable
class TakesEngines(Protocol):
    """A network whose parts cannot simply be replaced by modules that run their channel graphs."""

    def take_engine(self, name: str, engine: nn.Module) -> None:
        """Let `engine`, which maps planes to planes, compute the part of that name in `channel_graphs` from now on."""
        ...


@runtime_checkable
class HasImageSize(Protocol):
    """A network that was made for images of one size: its height and width in pixels."""

    image_size: int


@runtime_checkable
class HasCountOf2019(Protocol):
    """A network whose published cost was counted by the code of 2019 (github.com/allenai/dnw)."""

    def count_2019(self, image_size: int) -> tuple[int, int]:
        """Parameters and multiply-adds as that code counts them for one image of that height and width."""
        ...


@runtime_checkable
class HasMeasures(Protocol):
    """A network of which something is worth noting after each epoch."""

    def measures(self) -> Mapping[str, float]:
        """Numbers by name, of the last forward pass or of the weights."""
        ...


@runtime_checkable
class HasFiles(Protocol):
    """A network of which something is worth keeping in files beside its checkpoints."""

    def files(self) -> Mapping[str, str]:
        """Texts by the relative paths of their files, with / between folders."""
        ...
