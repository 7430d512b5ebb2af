"""Networks in ONNX."""

from __future__ import annotations

import json
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from genutil.errors import UserError
from genutil.saved.exports.content import Exported
from genutil.saved.exports.deployable import deployable, example

OPSET = 20
"""Version of ONNX's operators that networks are written in."""
INPUT, OUTPUT = "images", "logits"
TOLERANCE = 1e-4
"""Largest difference of ONNX Runtime from the network, relative to the largest logit."""
BATCHES = (1, 7, 32)


def write(what: Exported) -> bytes:
    """A network from `images` [batch, channels, size, size], normalised, to `logits` [batch, classes], float32.

    The size is fixed and the batch is free. Where ONNX Runtime is installed, its logits are compared with the
    network's for several batches. Metadata: what `Exported.described` gives, each value as JSON.

    Raises:
        UserError: the package onnx is missing; the network's steps depend on the image; ONNX Runtime differs; or as
            `deployable`.
    """
    try:
        import onnx
    except ImportError as error:
        raise UserError(
            "An export to ONNX needs the packages onnx and onnxruntime: pip install onnx onnxruntime."
        ) from error
    module = deployable(what)
    contents = convert(module, example(what), OPSET)
    model = onnx.load_from_string(contents)
    onnx.helper.set_model_props(model, {key: json.dumps(value) for key, value in what.described().items()})
    contents = model.SerializeToString()
    what.notices.append(_compared(contents, what))
    return contents


def convert(module: nn.Module, images: Tensor, opset: int) -> bytes:
    """A module as an ONNX file for any batch of images of one size.

    Raises:
        UserError: a branch of it depends on a tensor, so that the file would hold for these images alone.
    """
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(record=True) as told, torch.no_grad():
        warnings.simplefilter("always")
        path = Path(folder) / "network.onnx"
        torch.onnx.export(
            module,
            (images,),
            path,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_axes={INPUT: {0: "batch"}, OUTPUT: {0: "batch"}},
            opset_version=opset,
            dynamo=False,
        )
        contents = path.read_bytes()
    if any(issubclass(warning.category, torch.jit.TracerWarning) for warning in told):
        raise UserError("The steps of this network depend on values that it computes, which ONNX cannot hold.")
    return contents


def _compared(contents: bytes, what: Exported) -> str:
    """Compare with the network in ONNX Runtime, and say so. Raises UserError where they differ."""
    try:
        import onnxruntime
    except ImportError:
        return "not compared with the network: the package onnxruntime is not installed"
    session: Any = onnxruntime.InferenceSession(contents, providers=["CPUExecutionProvider"])
    largest = 0.0
    for batch in BATCHES:
        images = example(what, batch)
        with torch.no_grad():
            expected = what.network(images)
        (found,) = session.run([OUTPUT], {INPUT: images.numpy()})
        difference = (torch.from_numpy(found) - expected).abs().max() / expected.abs().max().clamp(min=1e-12)
        largest = max(largest, float(difference))
    if not largest <= TOLERANCE:
        raise UserError(
            f"ONNX Runtime differs from the network by {largest:.1e} of its largest logit; nothing is written."
        )
    return f"ONNX Runtime differs from the network by {largest:.1e} of its largest logit at most"
