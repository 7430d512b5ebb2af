"""Networks as programs of torch.export."""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout

import torch
from torch.export import Dim

from genutil.errors import UserError
from genutil.saved.exports.content import Exported
from genutil.saved.exports.deployable import deployable, example

DESCRIPTION = "description.json"
"""Name of the extra file that says what the network is (`Exported.described`)."""


def write(what: Exported) -> bytes:
    """A program from images [batch, channels, size, size], normalised, to logits; `torch.export.load` reads it.

    The size is fixed and the batch is free.

    Raises:
        UserError: the network's steps depend on the image; or as `deployable`.
    """
    module = deployable(what)
    buffer = io.BytesIO()
    with _silent(), torch.no_grad():
        try:
            program = torch.export.export(module, (example(what, 2),), dynamic_shapes=({0: Dim("batch")},))
        except Exception as error:  # torch has a dozen kinds for what it cannot trace
            raise UserError(
                "The steps of this network depend on values that it computes, which torch.export cannot write "
                f"({type(error).__name__})."
            ) from error
        torch.export.save(program, buffer, extra_files={DESCRIPTION: json.dumps(what.described())})
    return buffer.getvalue()


@contextmanager
def _silent() -> Iterator[None]:
    """What torch tells of a program that it cannot write is pages long."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
