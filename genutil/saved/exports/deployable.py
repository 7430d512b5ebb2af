"""The module that an exported program computes: the network at its live nodes, as plain operations of torch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from genutil.saved.exports.content import Exported, sentence
from models.protocols import HasPlainForm
from models.sparse import EngineError, channel_graphs, compile_graph
from models.sparse.compiled import CompiledGraph


def deployable(what: Exported) -> nn.Module:
    """A module from images [batch, channels, size, size], normalised, to logits, checked against the network.

    Its wired parts are dense on the live nodes; a network without any is itself.

    Raises:
        UserError: no path of edges leads from the image to the logits, or the images are too small.
    """
    network = what.network
    if isinstance(network, HasPlainForm):
        return network.plain_form().eval()
    if not channel_graphs(network):
        return network
    try:
        compiled = compile_graph(network, engine="pruned", image_size=what.image_size)
    except (ValueError, EngineError) as error:
        raise sentence(error) from error
    return _with_engines_alone(compiled)


def _with_engines_alone(module: nn.Module) -> nn.Module:
    """The module with every part that chooses an engine by the images' size replaced by the one engine it has."""
    if isinstance(module, CompiledGraph):
        return next(iter(module.sizes.values())) if len(module.sizes) == 1 else module
    for name, child in module.named_children():
        setattr(module, name, _with_engines_alone(child))
    return module


def example(what: Exported, images: int = 1) -> Tensor:
    """Normalised noise as the network takes it."""
    shape = (images, what.experiment.in_channels, what.image_size, what.image_size)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))
