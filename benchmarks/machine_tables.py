"""Tables of the pages on data and on many machines (see benchmarks/results_page.py)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol


class Values(Protocol):
    """Measured figures by their place."""

    def value(self, path: str) -> Any: ...


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of Markdown; all columns but the first are numbers."""
    ruler = ["---", *["---:"] * (len(heads) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (heads, ruler, *rows))


def loaders(figures: Values) -> str:
    """Images a second of every loader and of the network."""
    rows = figures.value("data/sizes")
    heads = ["images a second", *(f"{row['size']} pixels" for row in rows)]
    names = list(dict.fromkeys(name for row in rows for name in row["images_per_second"] if name != "network"))
    lines = [[_words(name), *(f"{row['images_per_second'].get(name, 0):,.0f}" for row in rows)] for name in names]
    taken = [f"{row['images_per_second']['network']:,.0f} ({row['network']})" for row in rows]
    costs = [f"{row['processor_milliseconds']['folder']:.2f} ms" for row in rows]
    return table(
        heads, [*lines, ["**the network, in training**", *taken], ["processor time of a folder's image", *costs]]
    )


def scaling(figures: Values) -> str:
    """The rate of a folder by workers, over that of one worker."""
    rows = figures.value("data/sizes")
    workers = sorted({int(n) for row in rows for n in row["scaling"]["folder"]})
    heads = ["times one worker", *(f"{n} workers" if n else "none" for n in workers)]
    return table(heads, [[f"folder, {row['size']} pixels", *_ratios(row, workers)] for row in rows])


def _ratios(row: dict[str, Any], workers: Sequence[int]) -> list[str]:
    return [f"{row['scaling']['folder'][str(n)]:.2f}" for n in workers]


def _words(name: str) -> str:
    kind, _, workers = name.partition(" ")
    if not workers:
        return kind
    return f"{kind}, {'in the process itself' if workers == '0' else workers + ' worker' + 's' * (workers != '1')}"


def assumed(figures: Values) -> str:
    """What the plan assumes of the machines."""
    own = figures.value("plan/machines")
    lines = [
        ["machines, GPUs of each", f"{own['count']}, {own['gpus']}", "the plan's"],
        ["operations of a GPU in bf16", f"{own['flops'] / 1e12:.0f} TFLOP/s", "H100 SXM, data sheet, dense"],
        ["its memory", f"{own['memory'] / 1e12:.2f} TB/s", "the same"],
        ["share of that which a step reaches", f"{100 * own['reached']:.0f} %", "assumed, until it is measured"],
        ["a byte that backward needs is moved", f"{own['movements']} times", "assumed"],
        ["a GPU sends within its machine", f"{own['link'] / 1e9:.0f} GB/s", "NVLink 4, one direction"],
        ["a machine sends to the others", f"{own['network'] / 1e9:.0f} GB/s", "8 x 400 Gbit/s, as in DGX H100"],
        ["an all-reduce of a few numbers", f"{1e6 * own['latency']:.0f} µs", "assumed"],
        ["cores of a machine", f"{own['cores']}", "as in DGX H100"],
        ["writing a checkpoint", f"{own['disk'] / 1e9:.0f} GB/s", "assumed"],
        ["a GPU fails", f"every {1 / own['failures'] / 3600 / 24 / 365:.1f} years", LLAMA],
        ["a lent machine is taken away", f"every {1 / own['taken_away'] / 3600:.0f} hours", "assumed"],
        ["starting again", f"{own['restart']:.0f} s", "assumed"],
        ["an image of ImageNet", f"{figures.value('plan/image_bytes') / 1e3:.1f} kB", "the archive's size"],
        ["a core decodes", f"{figures.value('plan/decoded_by_a_core'):.0f} images/s", "[measured](results.md#loading)"],
    ]  # fmt: skip
    return table(["", "", "from"], lines)


LLAMA = "419 in 54 days of 16,384 ([Llama 3](https://arxiv.org/abs/2407.21783), 3.3.4)"
Column = tuple[str, Callable[[dict[str, Any]], str]]

STEP: tuple[Column, ...] = (
    ("parameters of all possible edges", lambda p: f"{p['need']['parameters'] / 1e6:.1f} million"),
    ("multiply-adds an image, forward", lambda p: f"{p['need']['multiply_adds'] / 1e6:,.0f} million"),
    ("backward needs, an image in bf16", lambda p: f"{p['need']['saved_bytes'] / 1e6:.1f} MB"),
    ("memory of a GPU", lambda p: f"{p['memory_a_gpu'] / 1e9:.1f} GB"),
    ("batch", lambda p: f"{p['batch']:,}"),
    ("operations, at full speed", lambda p: f"{1e3 * p['step']['operations']:.2f} ms"),
    ("memory, at full speed", lambda p: f"{1e3 * p['step']['memory']:.2f} ms"),
    ("computing, as far as reached", lambda p: f"{1e3 * p['step']['compute']:.1f} ms"),
    ("gradient, summed over all", lambda p: f"{p['gradient_bytes'] / 1e6:.0f} MB"),
    ("of it a machine sends", lambda p: f"{p['sent_bytes'] / 1e6:.0f} MB"),
    ("exchange, if nothing hides it", lambda p: f"{1e3 * p['step']['exchange']:.2f} ms"),
    ("synchronised batch norms", lambda p: f"{1e3 * p['step']['norms']:.1f} ms"),
    ("**a step**", lambda p: f"**{1e3 * p['step']['seconds']:.1f} ms**"),
    ("images a second that the GPUs take", lambda p: f"{p['images_per_second']:,.0f}"),
)
DATA: tuple[Column, ...] = (
    ("images a second that all cores decode", lambda p: f"{p['readable_per_second']:,.0f}"),
    ("cores that a GPU would need", lambda p: f"{p['cores_a_gpu']:.0f}"),
    ("a machine reads", lambda p: f"{p['bytes_per_second_a_machine'] / 1e9:.2f} GB/s"),
    ("steps an epoch", lambda p: f"{p['steps_an_epoch']:,}"),
    ("an epoch", lambda p: f"{p['epoch_seconds']:.1f} s"),
    ("epochs", lambda p: f"{p['epochs']}"),
    ("the training, if data never limited", lambda p: f"{60 * p['hours_by_gpus']:.1f} min"),
    ("**the training**", lambda p: f"**{60 * p['hours']:.1f} min**"),
)
FAILURES: tuple[Column, ...] = (
    ("a checkpoint (weights, momentum)", lambda p: f"{p['checkpoint_bytes'] / 1e6:.0f} MB"),
    ("written in", lambda p: f"{1e3 * p['checkpoint_seconds']:.0f} ms"),
    ("share of the time, one an epoch", lambda p: f"{100 * p['checkpoint_share']:.2f} %"),
    ("GPUs fail: every", lambda p: f"{p['failing']['mean_hours']:,.0f} hours"),
    ("in the training", lambda p: f"{p['failing']['count']:.4f} times"),
    ("best interval of checkpoints", lambda p: f"{p['best_interval']['failing'] / 60:.0f} min"),
    ("lost, one an epoch", lambda p: f"{100 * p['failing']['lost_share']:.3f} %"),
    ("lent machines go: every", lambda p: f"{p['lent']['mean_hours']:.1f} hours"),
    ("in the training", lambda p: f"{p['lent']['count']:.2f} times"),
    ("best interval of checkpoints", lambda p: f"{p['best_interval']['lent'] / 60:.1f} min"),
    ("lost, one an epoch", lambda p: f"{100 * p['lent']['lost_share']:.2f} %"),
)


def _plan(columns: Sequence[Column]) -> Callable[[Values], str]:
    def made(figures: Values) -> str:
        plans = figures.value("plan/plans")
        heads = ["", *(f"`{name}`" for name in plans)]
        return table(heads, [[words, *map(shown, plans.values())] for words, shown in columns])

    return made


def rates(figures: Values) -> str:
    """The learning rates that linear scaling gives."""
    plans = figures.value("plan/plans")
    lines = [
        [f"`{name}`", f"{p['own_rate']:g} for {p['own_batch']}", f"{p['learning_rate']:g} for {p['batch']:,}"]
        for name, p in plans.items()
    ]
    return table(["", "the app's rate", "on all GPUs"], lines)


def steps_on_gpu(figures: Values) -> str:
    """What the GPU command found, a line a piece."""
    found = figures.value("gpu_small/pieces")
    lines = [
        [f"`{name}`", "", f"not measured: {piece['error']}"] if "error" in piece else
        [f"`{name}`", f"{piece['milliseconds']:.1f} ms", f"{piece['images_per_second']:,.0f}"]
        for name, piece in found.items()
    ]  # fmt: skip
    return table(["piece", "median", "images a second"], lines)


TABLES: dict[str, Callable[[Values], str]] = {
    "loaders": loaders,
    "scaling": scaling,
    "assumed": assumed,
    "plan_step": _plan(STEP),
    "plan_data": _plan(DATA),
    "plan_failures": _plan(FAILURES),
    "plan_rates": rates,
    "gpu_small": steps_on_gpu,
}
