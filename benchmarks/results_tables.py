"""The tables of docs/results.md, each from one JSON file of measured figures."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.results_page import Figures

ENGINES = {
    "dense": "dense",
    "pruned": "pruned",
    "dgl": "DGL",
    "csr": "csr",
    "onnx": "ONNX Runtime",
    "openvino": "OpenVINO",
    "deepsparse": "DeepSparse",
}


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def spread(values: Sequence[float], form: str = ".1f") -> str:
    """Mean and standard deviation of one value a seed."""
    if len(values) == 1:
        return format(values[0], form)
    return f"{statistics.mean(values):{form}} ± {statistics.stdev(values):{form}}"


def engines(figures: Figures) -> str:
    """Milliseconds of the native engine, and how many times as long the others take."""
    cells = figures.value("evaluate/cells")
    shown = [name for name in ENGINES if any(name in cell["ratio_to_native"] for cell in cells)]
    heads = ["wiring", "threads", "batch", "native, ms", *(ENGINES[name] for name in shown), "of the peak"]
    rows = []
    for cell in cells:
        size = cell["image_size"]
        ratios = {name: ratio["median"] for name, ratio in cell["ratio_to_native"].items()}
        rows.append(
            [
                cell["wiring"] if size == 224 else f"{cell['wiring']}, {size}x{size}",
                str(cell["threads"]),
                str(cell["batch"]),
                f"{cell['milliseconds']['native']['median']:.2f}",
                *(f"{ratios[name]:.1f}" if name in ratios else "" for name in shown),
                f"{100 * cell['share_of_peak']['median']:.0f} %",
            ]
        )
    return table(heads, rows)


def equal_accuracy(figures: Figures) -> str:
    """How many times as fast as dense networks of the same accuracy the wired networks are."""
    wired = figures.value("equal_accuracy/wired")
    heads = ["threads", "batch", *(f"{name} ({network['accuracy']} %), ms" for name, network in wired.items())]
    heads += [f"{name}, times as fast" for name in wired]
    rows = []
    for cell in figures.value("equal_accuracy/cells"):
        times = [f"{cell['milliseconds'][name]['median']:.2f}" for name in wired]
        found = [cell["ratio"][name] for name in wired]
        ratios = [f"{ratio['median']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f})" for ratio in found]
        rows.append([str(cell["threads"]), str(cell["batch"]), *times, *ratios])
    return table(heads, rows)


PARTS = {
    "first convolution": ("SUM_COPIES", "SUM_ROWS"),
    "sums over planes": ("SUM_PLANES",),
    "classifier": ("SUM_VALUES_DENSE", "SUM_VALUES_SPARSE"),
}
"""What the native engine sums over, by the kinds of its levels."""


def native_phases(figures: Figures) -> str:
    """Where the native engine spends the time of one image: microseconds of all threads, and the speed of the sums."""
    heads = ["wiring", "threads", "copies", *PARTS, "depthwise convolutions, means", "sums over planes, of the peak"]
    rows = []
    for cell in figures.value("evaluate/cells"):
        levels = cell.get("timings")
        if levels is None or cell["batch"] > 1:
            continue
        times = {part: _seconds(levels, "SUMS", kinds) for part, kinds in PARTS.items()}
        planes = PARTS["sums over planes"]
        adds = sum(level["multiply_adds"] for level in levels if level["kind"] in planes)
        share = 100 * adds / times["sums over planes"] / 1e9 / cell["peak_gmacs_a_thread"]["median"]
        found = [_seconds(levels, "COPIES"), *times.values(), _seconds(levels, "NODES")]
        microseconds = (f"{1e6 * seconds:.0f}" for seconds in found)
        rows.append([cell["wiring"], str(cell["threads"]), *microseconds, f"{share:.0f} %"])
    return table(heads, rows) if rows else "No timings are recorded yet."


def _seconds(levels: Sequence[Mapping[str, Any]], phase: str, kinds: Sequence[str] | None = None) -> float:
    """Of a phase in the levels of some kinds, or of all."""
    return sum(level["seconds"][phase] for level in levels if kinds is None or level["kind"] in kinds)


def missed_curve(figures: Figures) -> str:
    """The cells in which a wired network is not as many times as fast as the dense curve as was aimed at."""
    aim = figures.value("equal_accuracy/aim")
    rows = [
        [name, str(cell["threads"]), str(cell["batch"]), f"{aim:g}", f"{ratio['median']:.2f}"]
        for cell in figures.value("equal_accuracy/cells")
        for name, ratio in cell["ratio"].items()
        if ratio["median"] < aim
    ]
    return table(["wiring", "threads", "batch", "aim", "reached"], rows) if rows else "Every aim is reached."


def missed_aims(figures: Figures) -> str:
    """The cells in which the native engine is not as many times as fast as was aimed at."""
    rows = []
    for said in figures.value("evaluate/aims"):
        for cell in figures.value("evaluate/cells"):
            aim = said["wirings"].get(cell["wiring"]) if cell["image_size"] == 224 else None
            ratio = cell["ratio_to_native"].get(said["column"], {}).get("median")
            if aim is None or ratio is None or ratio >= aim:
                continue
            where = [cell["wiring"], str(cell["threads"]), str(cell["batch"])]
            rows.append([ENGINES[said["column"]], *where, f"{aim:g}", f"{ratio:.2f}"])
    return table(["against", "wiring", "threads", "batch", "aim", "reached"], rows) if rows else "Every aim is reached."


def built(figures: Figures) -> str:
    """What the networks of the comparison cost, and what it takes to build the native engine for them."""
    rows = []
    for network in figures.value("evaluate/built"):
        price = network["columns"]["native"]
        memory = f"{price['memory_mib']:.0f} MiB" if "memory_mib" in price else ""
        size = network["image_size"]
        costs = [f"{network[key]:,}" for key in ("edges", "parameters", "multiply_adds")]
        rows.append([network["wiring"], f"{size}x{size}", *costs, f"{price['build_s']:.2f} s", memory])
    heads = ["wiring", "images", "live edges in stages", "parameters", "multiply-adds", "native built in", "memory"]
    return table(heads, rows)


def source_order(figures: Figures) -> str:
    """Edges that a node has in each block of sources that it visits, by the order of the sources."""
    measured = figures.value("source_order/rows")
    orders = list(measured[0]["visits"])
    rows = [
        [row["network"], f"{row['edges']:,}", *(f"{row['edges'] / row['visits'][order]:.1f}" for order in orders)]
        for row in measured
    ]
    return table(["wiring", "edges", *(f"by {order}" for order in orders)], rows)


def real_images(figures: Figures) -> str:
    """Images a second of engines and of the network itself, and how many they predict alike."""
    rows = []
    for row in figures.value("real_images/rows"):
        same = f"{row['same_predictions']:,} of {row['images']:,}"
        speeds = [f"{row[f'{what}_images_per_second']:,}" for what in ("engine", "network")]
        rows.append([f"`{row['engine']}`", f"{row['top1']:.2f} %", same, str(row["near_ties"]), *speeds])
    heads = ["engine", "top-1", "predicted as the network does", "near ties", "engine, images/s", "network, images/s"]
    return table(heads, rows)


def half_precision(figures: Figures) -> str:
    """What the engine native_half predicts, by how it computes, beside native."""
    images = figures.value("half/images")
    rows = [
        [
            "`native`" if row["arithmetic"] == "float32" else "`native_half`",
            row["arithmetic"],
            f"{row['top1']:.2f} %",
            f"{row['same']:,} of {images:,} ({100 * row['same'] / images:.2f} %)",
            f"{row['largest_difference']:.0e}",
        ]
        for row in figures.value("half/rows")
    ]
    return table(["engine", "sums in", "top-1", "predicted as the network does", "largest difference"], rows)


def rules(figures: Figures) -> str:
    """Rules at one budget, the best first."""
    rows = []
    found = figures.value("rivals/results")
    for rule, result in sorted(found.items(), key=lambda item: -item[1]["top1"]):
        edges, note = result["edges"], ""
        if edges["natural"] is not None:
            sparse = 100 * (1 - edges["natural"] / edges["possible"])
            tried = f"the nearest of {len(result['trials'])} trials of a bisection"
            note = f"{edges['natural']:,} edges ({sparse:.1f} % removed) by itself; the strength is {tried}"
        rows.append([f"`{rule}`", f"{result['top1']:.2f}", note])
    return table(["rule", "test top-1", ""], rows)


def node_edges(figures: Figures) -> str:
    """Edges between the nodes of a randomly wired network: drawn, learned, or a lattice."""
    rows = []
    for row in figures.value("randwire_budget/rows"):
        seeds = ", ".join(f"{value:.2f}" for value in row["top1"])
        rows.append([f"`{row['app']}`: {row['edges_are']}", seeds, spread(row["top1"])])
    return table(["edges between nodes", "test top-1, a seed each", "mean ± standard deviation"], rows)


def published_errors(figures: Figures) -> str:
    """Published networks, read and evaluated."""
    rows = [[network, f"{error:.2f} %"] for network, error in figures.value("keras_cifar10/error").items()]
    return table(["network", "test error"], rows)


def train_steps(figures: Figures) -> str:
    """Milliseconds of a training step of every wired network, ours and written plainly."""
    heads = ["network", "batch", "ours, ms", "plain, ms", "times as fast", "with `medium`", "choosing edges"]
    rows = []
    for row in figures.value("train_step/rows").values():
        ours, plain = (statistics.median(row["milliseconds"][form]) for form in ("ours", "plain"))
        ratio, medium, size = row["ratio"], row["medium_ratio"], row["image_size"]
        rows.append(
            [
                f"{row['words']}, {size}x{size}",
                str(row["batch"]),
                f"{ours:,.0f}",
                f"{plain:,.0f}",
                f"{ratio['median']:.1f} ({ratio['min']:.1f} to {ratio['max']:.1f})",
                f"{medium['median']:.1f} ({medium['min']:.1f} to {medium['max']:.1f})",
                f"{100 * row['selection_share']:.1f} %",
                *(f"{row['peak_mib'][form]:,.0f}" for form in ("ours", "plain")),
                f"{row['float64_difference']:.0e}",
            ]
        )
    return table([*heads, "MiB, ours", "MiB, plain", "difference"], rows)


def missed_steps(figures: Figures) -> str:
    """The networks whose step is not as many times as fast as the plain one as was aimed at, and what holds it."""
    rows = []
    for row in figures.value("train_step/rows").values():
        aim, ratio, medium = row["aim"], row["ratio"]["median"], row["medium_ratio"]["median"]
        if aim is None or ratio >= aim:
            continue
        ours, plain = (statistics.median(row["milliseconds"][form]) for form in ("ours", "plain"))
        milliseconds = (f"{ms:,.0f}" for ms in (ours, row["dense_gradient_milliseconds"], plain / aim))
        name = f"{row['words']}, {row['image_size']}x{row['image_size']}"
        rows.append([name, f"{aim:g}", f"{ratio:.1f}", f"{medium:.1f}", *milliseconds])
    heads = ["network", "aim", "reached", "with `medium`", "ours, ms", "of it the dense gradient", "aim, ms"]
    return table(heads, rows) if rows else "Every aim is reached."


def step_growth(figures: Figures) -> str:
    """Milliseconds of a training step of the static network by images and by acting edges."""
    rows = []
    for what, unit, count in (("images", "an image", 1), ("edges", "a thousand edges", 1000)):
        before = None
        for row in figures.value(f"train_step/growth/{what}"):
            added = ""
            if before is not None:
                slope = (row["milliseconds"] - before["milliseconds"]) / (row[what] - before[what])
                added = f"{count * slope:.2f} ms {unit}"
            rows.append([f"{row['images']:,}", f"{row['edges']:,}", f"{row['milliseconds']:,.0f}", added])
            before = row
    return table(["images", "acting edges", "ms a step", "more than the row above"], rows)


def start_up(figures: Figures) -> str:
    """Processor time of commands, and how many times as much as importing torch takes it is."""
    ratios, rows = figures.value("start_up/ratio"), []
    for name, seconds in figures.value("start_up/processor_seconds").items():
        spread = aim = ""
        if name in ratios:
            ratio = ratios[name]
            spread = f"{ratio['median']:.2f} ({ratio['min']:.2f} to {ratio['max']:.2f})"
            aim = f"{ratio['aim']:g}"
        rows.append([f"`{name}`", f"{statistics.median(seconds):.2f}", spread, aim])
    return table(["command", "processor time, s", "times importing torch", "at most"], rows)


def epochs(figures: Figures) -> str:
    """Images a second of whole epochs, and of some steps by an earlier state."""
    rows = []
    for row in figures.value("epochs/rows"):
        now, before = row["now"]["images_per_second"], row.get("before")
        earlier = ["", "", ""]
        if before:
            ratio = now / before["images_per_second"]
            earlier = [f"{before['images_per_second']:,.0f}", str(before["step"]), f"{ratio:.1f}"]
        rows.append([_with_settings(row), earlier[0], earlier[1], f"{now:,.0f}", earlier[2]])
    return table(["experiment", "before, images/s", "in steps", "now, images/s", "ratio"], rows)


def step_settings(figures: Figures, key: str) -> str:
    """Milliseconds of a training step with a setting off and on, and the most that the process held."""
    rows = []
    for row in figures.value(f"{key}/rows"):
        medians = {
            way: {name: statistics.median(one[name] for one in row[way]) for name in row[way][0]}
            for way in ("off", "on")
        }
        ratio = row["ratio"]
        times = [f"{medians[way]['milliseconds']:,.0f}" for way in ("off", "on")]
        memory = [f"{medians[way]['mebibytes']:,.0f}" for way in ("off", "on")]
        spread = f"{ratio['median']:.2f} ({ratio['min']:.2f} to {ratio['max']:.2f})"
        rows.append([_with_settings(row), *times, spread, *memory])
    heads = ["experiment", "without, ms", "with, ms", "ratio", "without, MiB", "with, MiB"]
    return table(heads, rows)


def _with_settings(row: Mapping[str, Any]) -> str:
    """A row's experiment, with the settings that differ from its app file's."""
    return f"`{row['experiment']}`" + "".join(f", {key} {value}" for key, value in row["settings"].items())


def exports(figures: Figures) -> str:
    """Bytes of every form of some networks, and milliseconds of an image."""
    networks = figures.value("exports/networks")
    heads = ["form", *(f"{entry['network']}, {'trained' if entry['trained'] else 'untrained'}" for entry in networks)]
    rows = []
    for number, row in enumerate(networks[0]["forms"]):
        cells = [_export_cell(entry["forms"][number]) for entry in networks]
        rows.append([f"`{row['form']}`" if row["form"].startswith(".") else row["form"], *cells])
    return table(heads, rows)


def _export_cell(row: Mapping[str, Any]) -> str:
    if row["bytes"] is None:
        return "refused"
    size = f"{row['bytes'] / 1000:,.0f} kB"
    return f"{size}, {row['milliseconds']['median']:.2f} ms" if "milliseconds" in row else size


def export_sizes(figures: Figures) -> str:
    """What the C programs need of a microcontroller."""
    rows = []
    for entry in figures.value("exports/networks"):
        row = next(row for row in entry["forms"] if row["form"] == ".c")
        rows.append([entry["network"], f"{row['flash'] / 1000:,.0f} kB", f"{row['ram'] / 1000:,.0f} kB"])
    return table(["network", "flash, constants", "RAM"], rows)


def export_conditions(figures: Figures) -> str:
    """Whether the latencies can be trusted."""
    if not figures.value("exports/disturbed"):
        return "Nothing else ran on the machine meanwhile."
    return "Others worked on the machine meanwhile, so that only ratios within a column mean something."


TABLES: dict[str, Callable[[Figures], str]] = {
    "engines": engines,
    "equal_accuracy": equal_accuracy,
    "missed_curve": missed_curve,
    "native_phases": native_phases,
    "missed_aims": missed_aims,
    "missed_steps": missed_steps,
    "built": built,
    "real_images": real_images,
    "source_order": source_order,
    "half_precision": half_precision,
    "rules": rules,
    "node_edges": node_edges,
    "published_errors": published_errors,
    "train_steps": train_steps,
    "step_growth": step_growth,
    "start_up": start_up,
    "epochs": epochs,
    "keep_memory": partial(step_settings, key="keep_memory"),
    "channels_last": partial(step_settings, key="channels_last"),
    "exports": exports,
    "export_sizes": export_sizes,
    "export_conditions": export_conditions,
}
