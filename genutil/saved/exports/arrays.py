"""The channel graph as NumPy arrays (`models.sparse.storage`)."""

from __future__ import annotations

from io import BytesIO

from genutil.saved.exports.content import Exported, sentence
from models.sparse import storage, whole_graph


def write(what: Exported) -> bytes:
    """The whole graph, dead nodes and all, from the image to the logits.

    Raises:
        UserError: the network as a whole is no channel graph.
    """
    try:
        graph = whole_graph(what.network)
    except ValueError as error:
        raise sentence(error) from error
    file = BytesIO()
    storage.write(graph, file)
    return file.getvalue()
