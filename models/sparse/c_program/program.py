"""One C99 file that runs a channel graph: its edges as compact tables, its memory planned, no library but libm."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

import numpy as np

from models.sparse.c_program.memory import MemoryPlan, plan_memory, source_nodes
from models.sparse.c_program.tables import Tables, narrow
from models.sparse.graph import ChannelGraph, Level, Size

CODE_BYTES = 3 << 10
"""What the functions take in a program, about; the tables are counted."""


@dataclass(frozen=True)
class ImageForm:
    """How bytes become what the network takes: (byte / 255 - mean) / std for each channel.

    Attributes:
        mean, std: of each channel, of pixels from 0 to 1.
        standardise: each image by its own mean and deviation instead.
    """

    mean: Sequence[float]
    std: Sequence[float]
    standardise: bool = False


def c_program(
    graph: ChannelGraph, image_size: Size, name: str, form: ImageForm, class_names: Sequence[str] = (), about: str = ""
) -> str:
    """The text of a C99 file that computes a channel graph from image to logits, one image at a time, in float32.

    Args:
        graph: of a whole network; its dead nodes are left out.
        image_size: height and width of the images that it is for.
        name: what the names of its functions begin with; other signs than letters and digits become _.
        form: of the images.
        class_names: of the outputs; their numbers where there are none.
        about: a line for its first comment.

    Raises:
        ValueError: the graph has no path from image to logits, gives planes, or does not fit 32-bit addresses.
    """
    if not graph.flat:
        raise ValueError("the channel graph gives planes and no logits")
    pruned = graph.pruned(image_size)
    plan = plan_memory(pruned, image_size)
    tables = Tables()
    place = tables.add(narrow(plan.place), "place")
    assert place == "place"
    if not form.standardise:
        tables.add(np.asarray(form.mean, np.float32), "channel_mean")
        tables.add(np.asarray(form.std, np.float32), "channel_std")
    levels = [_level(pruned, i, plan, image_size, tables) for i in range(1, len(pruned.levels))]
    identifier = _identifier(name)
    template = files("models.sparse.c_program")
    parts = [
        "#include <math.h>\n#include <stdint.h>\n#include <string.h>\n\n",
        _constants(pruned, image_size, plan, form, class_names),
        _declarations(),
        tables.text(),
        template.joinpath("kernels.c").read_text().replace("/* All levels;", f"{_levels(levels)}\n/* All levels;"),
        "\n" + template.joinpath("main.c").read_text(),
    ]
    code = "".join(parts).replace("NETWORK_", f"{identifier.upper()}_").replace("network_", f"{identifier}_")
    return _header(pruned, image_size, plan, tables, identifier, about) + code


def _identifier(name: str) -> str:
    cleaned = re.sub(r"[^A-Za-z0-9]", "_", name) or "network"
    return f"n{cleaned}" if cleaned[0].isdigit() or cleaned[0] == "_" else cleaned


def _constants(graph: ChannelGraph, size: Size, plan: MemoryPlan, form: ImageForm, class_names: Sequence[str]) -> str:
    classes = graph.levels[-1].nodes
    names = list(class_names) if len(class_names) == classes else [str(number) for number in range(classes)]
    values = {
        "CHANNELS": graph.levels[0].nodes,
        "HEIGHT": size[0],
        "WIDTH": size[1],
        "CLASSES": classes,
        "MEMORY": plan.length,
        "SCRATCH": plan.scratch,
        "NODES": len(plan.place),
        "LEVELS": len(graph.levels) - 1,
        "STANDARDISE": int(form.standardise),
    }
    lines = [f"#define NETWORK_{key} {value}\n" for key, value in values.items()]
    quoted = ", \\\n    ".join(_quoted(name) for name in names)
    return "".join([*lines, f"#define NETWORK_CLASS_NAMES \\\n    {quoted}\n"])


def _quoted(text: str) -> str:
    """A string of C: other signs than plain letters as octal numbers of their UTF-8 bytes."""
    plain = {ord(sign) for sign in " ,.;:-_'()/&+*#=!"} | {*b"abcdefghijklmnopqrstuvwxyz", *b"0123456789"}
    plain |= set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    return '"' + "".join(chr(byte) if byte in plain else f"\\{byte:03o}" for byte in text.encode()) + '"'


def _declarations() -> str:
    return """
void network_run(const float *image, float *logits, float *memory);
void network_classify(const uint8_t *pixels, int planar, float *logits, float *memory);

"""


def _level(graph: ChannelGraph, index: int, plan: MemoryPlan, image_size: Size, tables: Tables) -> dict[str, object]:
    """The fields of a level's structure, tables by their names; fields that are zero or null are left out."""
    level, sizes = graph.levels[index], graph.sizes(image_size)
    edges = level.incoming
    nodes = source_nodes(graph, level, plan.first)
    base = int(nodes.min()) if len(nodes) else 0
    dense = edges.count == edges.nodes * edges.columns and np.array_equal(nodes, base + np.arange(len(nodes)))
    counts = narrow(np.diff(edges.indptr))
    source = sizes[level.sources[0]][1] if level.sources else (1, 1)
    sums, out = sizes[index][0], level.convolved_size(sizes[index][0])
    fields: dict[str, object] = {
        "nodes": level.nodes,
        "first": plan.first[index],
        "base": base,
        **dict(zip(("source_height", "source_width"), source, strict=True)),
        **dict(zip(("height", "width", "out_height", "out_width"), (*sums, *out), strict=True)),
        **dict(zip(("kernel_height", "kernel_width"), edges.kernel, strict=True)),
        "stride": edges.stride,
        "padding": edges.padding,
        "count_bytes": counts.itemsize,
        "counts": tables.add(counts),
        "bias": tables.add(level.bias),
        "relu": int(level.relu),
        "mean": int(level.mean),
    }
    if edges.count:
        fields["weight"] = tables.add(edges.weight)
    if edges.count and not dense:
        numbers = narrow(nodes[edges.indices] - base)
        fields |= {"index": tables.add(numbers), "index_bytes": numbers.itemsize}
    return fields | _operations(level, out, tables)


def _operations(level: Level, out: Size, tables: Tables) -> dict[str, object]:
    """What the nodes do with their sums."""
    fields: dict[str, object] = {}
    if level.norm is not None:
        pairs = np.stack([level.norm.weight, level.norm.bias], axis=1)
        fields |= {"norm": tables.add(pairs), "eps": f"{np.float32(level.norm.eps)!s}f"}
    if level.depthwise is not None:
        kernel = level.depthwise.kernel
        fields |= {"depthwise_height": kernel.shape[1], "depthwise_width": kernel.shape[2]}
        fields |= {"depthwise_stride": level.depthwise.stride, "depthwise_padding": level.depthwise.padding}
        fields["depthwise"] = tables.add(kernel)
        if level.depthwise.bias.any():
            fields["depthwise_bias"] = tables.add(level.depthwise.bias)
    if level.mean:
        window = level.window or (0, out[0], 0, out[1])
        fields |= dict(zip(("top", "bottom", "left", "right"), window, strict=True))
    if level.constant is not None and len(level.constant.nodes):
        fields |= {
            "constants": len(level.constant.nodes),
            "constant_nodes": tables.add(level.constant.nodes.astype(np.uint32)),
            "constant_planes": tables.add(level.constant.planes),
        }
    return fields


def _levels(levels: Sequence[dict[str, object]]) -> str:
    """The table of levels. Every field is given, in the structure's order, as -Wextra asks for."""
    order = re.findall(r"[*\s](\w+)(?=[,;])", _structure())
    rows = []
    for fields in levels:
        assert set(fields) <= set(order), set(fields) - set(order)
        rows.append("    {" + ", ".join(str(fields.get(name, 0)) for name in order) + "},\n")
    return f"static const struct level levels[NETWORK_LEVELS] = {{\n{''.join(rows)}}};\n"


def _structure() -> str:
    text = files("models.sparse.c_program").joinpath("kernels.c").read_text()
    body = text[text.index("struct level {") + len("struct level {") : text.index("};")]
    return re.sub(r"/\*.*?\*/", "", body, flags=re.DOTALL)


def _header(graph: ChannelGraph, size: Size, plan: MemoryPlan, tables: Tables, name: str, about: str) -> str:
    """The first comment: what it is, its sizes, how to call it."""
    counts = graph.counts(size)
    channels, classes = graph.levels[0].nodes, graph.levels[-1].nodes
    edges, work = sum(count.live_edges for count in counts), sum(count.multiply_adds for count in counts)
    image = channels * size[0] * size[1]
    upper = name.upper()
    lines = [
        f"A sparse convolutional network in C99, without dependencies but libm. {about}".rstrip(),
        "",
        f"{len(plan.place)} nodes, {edges} edges, {work} multiply-adds an image.",
        f"Flash: {tables.bytes} bytes of constants, and about {CODE_BYTES} of code.",
        f"RAM:   {4 * plan.length} bytes of working memory; main adds {image} for an image, {4 * classes} for logits.",
        "",
        f"As a program:  cc -O3 -std=c99 {name}.c -o {name} -lm",
        f"               ./{name} [--planar] [--logits] FILE",
        f"FILE holds the {image} bytes of an image of {size[1]} x {size[0]} pixels, {channels} "
        f"channel{'s' * (channels > 1)}, row by row from the top:",
        "all channels of a pixel together, or with --planar one whole channel after another. It prints the five best",
        "classes with their probabilities, or with --logits every output.",
        "",
        "In other programs: compile with -DNO_MAIN and declare",
        f"  void {name}_classify(const uint8_t *pixels, int planar, float *logits, float *memory);",
        f"  void {name}_run(const float *image, float *logits, float *memory);",
        f"`pixels` are such bytes, which are normalised as in training; `image` [{channels}][{size[0]}][{size[1]}] is "
        "normalised already.",
        f"`logits` has room for {classes} floats, `memory` for {plan.length} ({upper}_MEMORY); nothing else is kept,",
        "so that calls with different memory may run at the same time.",
    ]
    text = "\n".join(f"   {line}".rstrip() for line in lines)
    safe = (
        text.replace("*/", "* /").replace("/*", "/ *").replace("?", "")
    )  # neither ends the comment nor makes a trigraph
    return f"/*{safe[2:]}\n*/\n\n"
