"""What evaluation is timed with: engines of ours and of others, each on a file that its own process reads."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.turns import Call
from genutil.saved.exports.onnx_file import OPSET, convert
from models.sparse import ENGINES, channel_graph, storage
from models.sparse.engines import EngineOptions
from models.sparse.native import NativeGraph, load_kernel
from models.sparse.torch_engines import PrunedGraph, import_dgl

Run = Callable[[Tensor], Any]

OPSETS = {"onnx": OPSET, "openvino": 20, "deepsparse": 19}
"""Version of ONNX's operators that a network is written in; the last that DeepSparse 1.8 reads is 19."""


@dataclass(frozen=True)
class Column:
    """A network in an engine. Called, it builds the engine and gives the call that is timed.

    Attributes:
        engine: "dense" (torch), one of models.sparse.ENGINES, or of OPSETS.
        path: of the network: pickled, a channel graph, or in ONNX.
        image_size: height and width.
        batch: images of a call.
        threads: of a call.
    """

    engine: str
    path: Path
    image_size: int
    batch: int
    threads: int

    def __call__(self) -> Call:
        """Raises ImportError or ValueError where the engine cannot run here."""
        torch.set_num_threads(self.threads)
        run = torch.inference_mode()(self.load())
        images = torch.randn(self.batch, 3, self.image_size, self.image_size)
        return lambda: run(images)

    def load(self) -> Run:
        if self.engine == "dense":
            return torch.load(self.path, weights_only=False)
        if self.engine in OPSETS:
            return FOREIGN[self.engine](self)
        if self.engine == "dgl":
            import_dgl().utils.set_num_threads(self.threads)
        engine = ENGINES[self.engine]
        engine.require()
        size = self.image_size, self.image_size
        return engine.maker()(storage.load(self.path), size, EngineOptions(self.threads))


def onnx_runtime(column: Column) -> Run:
    """ONNX Runtime. Raises ImportError where it is not installed."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = column.threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(column.path), options, providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {"images": images.numpy()})[0]


def openvino_model(column: Column) -> Run:
    """OpenVINO, in fp32 as all others (it would take bf16 where the processor has it). Raises ImportError."""
    import openvino

    core = openvino.Core()
    model = core.read_model(column.path)
    model.reshape([column.batch, 3, column.image_size, column.image_size])
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": column.threads,
        "INFERENCE_PRECISION_HINT": "f32",
    }
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    return lambda images: request.infer([images.numpy()], share_inputs=True, share_outputs=True)[0]


def deepsparse_engine(column: Column) -> Run:
    """DeepSparse. Raises ImportError where it is not installed."""
    from deepsparse import Engine

    engine = Engine(model=str(column.path), batch_size=column.batch, num_cores=column.threads)
    return lambda images: engine.run([images.numpy()])[0]


FOREIGN: dict[str, Callable[[Column], Run]] = {
    "onnx": onnx_runtime,
    "openvino": openvino_model,
    "deepsparse": deepsparse_engine,
}


def write_onnx(network: nn.Module, image_size: int, path: Path, opset: int) -> Path:
    """The network as an ONNX file for any batch of images of one size."""
    path.write_bytes(convert(network, torch.randn(1, 3, image_size, image_size), opset))
    return path


class WiredFiles:
    """A wired network, and the files that its columns read, written when first wanted.

    Attributes:
        pruned: its channel graph without dead nodes, for images of one size.
    """

    def __init__(self, name: str, network: nn.Module, image_size: int, folder: Path) -> None:
        self.name, self.network, self.image_size, self.folder = name, network, image_size, folder
        self.size = (image_size, image_size)
        self.pruned = channel_graph(network).pruned(self.size)

    def column(self, engine: str, batch: int, threads: int) -> Column:
        """The network with its mask kept ("dense"), else without its dead nodes."""
        suffix = f"_{OPSETS[engine]}.onnx" if engine in OPSETS else ".pt" if engine == "dense" else ".npz"
        path = self.folder / f"{self.name}_{self.image_size}{suffix}"
        if not path.exists():
            if engine == "dense":
                torch.save(self.network, path)
            elif engine in OPSETS:
                write_onnx(PrunedGraph(self.pruned), self.image_size, path, OPSETS[engine])
            else:
                storage.save(self.pruned, path)
        return Column(engine, path, self.image_size, batch, threads)

    def timings(self, batch: int, threads: int) -> list[dict[str, Any]]:
        """Where the native engine spends its time: seconds an image by level and phase."""
        engine = NativeGraph(self.pruned, self.size, threads)
        found = engine.timings(torch.randn(batch, 3, *self.size), repeats=29)
        return [
            {
                "level": timing.name,
                "kind": None if timing.kind is None else timing.kind.name,
                "multiply_adds": timing.multiply_adds,
                "seconds": {phase.name: seconds for phase, seconds in timing.seconds.items()},
            }
            for timing in found
        ]

    def cost(self) -> dict[str, int]:
        """Live multiply-adds, parameters, and edges of all stages that have a wiring."""
        counts = self.pruned.counts(self.size)
        return {
            "multiply_adds": sum(count.multiply_adds for count in counts),
            "parameters": sum(count.parameters for count in counts),
            "edges": sum(count.live_edges for count in counts if count.stage in self.pruned.kept),
        }


def peak_gmacs(rounds: int = 1_000_000) -> float:
    """10^9 multiply-adds a second that one thread does in registers."""
    kernel = load_kernel()
    start = time.perf_counter()
    kernel.wirings_peak(rounds)
    return rounds * 12 * kernel.wirings_lanes() / (time.perf_counter() - start) / 1e9
