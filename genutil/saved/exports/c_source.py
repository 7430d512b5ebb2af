"""Networks as C99 programs (`models.sparse.c_program`)."""

from __future__ import annotations

from genutil.saved.exports.content import Exported, sentence
from models.sparse import whole_graph
from models.sparse.c_program.program import ImageForm, c_program


def write(what: Exported) -> bytes:
    """The program's text.

    Raises:
        UserError: the network as a whole is no channel graph.
    """
    experiment, normalisation = what.experiment, what.normalisation
    form = ImageForm([], [], True) if normalisation is None else ImageForm(*normalisation)
    size = what.image_size, what.image_size
    about = f"It was trained as {experiment.name or experiment.model} on {experiment.data}."
    try:
        graph = whole_graph(what.network)
        return c_program(graph, size, what.name, form, what.class_names, about).encode()
    except ValueError as error:
        raise sentence(error) from error
