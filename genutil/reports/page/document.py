"""The page of a run as text: what `Content` holds, put into the page's template with its style and its scripts."""

from __future__ import annotations

import base64
import importlib.resources
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genutil.model_profiling import Profile, WiredLayer
from genutil.reports.page.latency import Latency
from genutil.reports.page.standing import Standing
from genutil.reports.page.wiring import Part
from genutil.system.files import to_json

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Content:
    """What the page of a run tells. What is empty or None is left out.

    Attributes:
        name: of the run.
        summary: one line about it.
        facts: figures by what they are, the most important first.
        notices: sentences about what is remarkable: the run is not finished, a part is missing.
        curve: the validations as columns (`genutil.reports.results.curve`).
        steps_per_epoch: of the data.
        moments: names of the states of `parts`.
        parts: of the wiring.
        profile: what the network costs.
        latencies: what it costs in fact; `machine` says on which machine.
        standing: this network and others.
        architecture: a drawing (SVG).
        settings: of the run, as YAML.
    """

    name: str
    summary: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    notices: Sequence[str] = ()
    curve: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    steps_per_epoch: int = 1
    moments: Sequence[str] = ()
    parts: Sequence[Part] = ()
    profile: Profile | None = None
    dense_multiply_adds: int | None = None
    latencies: Sequence[Latency] = ()
    machine: str = ""
    standing: Sequence[Standing] = ()
    architecture: str = ""
    settings: str = ""


def render(content: Content) -> str:
    """The page: one HTML file that needs nothing else, neither files nor a network."""
    values = {
        "title": escape(f"{content.name}: report"),
        "name": escape(content.name),
        "summary": escape(content.summary),
        "facts": "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in content.facts.items()),
        "notices": "".join(f'<p class="notice">{escape(sentence)}</p>' for sentence in content.notices),
        "sections": "\n".join(filter(None, _sections(content))),
        "data": _data(content),
        "style": _own("page.css"),
        "wiring": _own("wiring.js"),
        "charts": _own("charts.js"),
        "plotly": plotly_script(),
    }
    pieces = _own("page.html").split("@")
    return "".join(values.get(piece, piece) if i % 2 else piece for i, piece in enumerate(pieces))


def plotly_script() -> str:
    """The script that draws the charts, from the installed package plotly."""
    return importlib.resources.files("plotly").joinpath("package_data/plotly.min.js").read_text(encoding="utf-8")


def _own(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


def _data(content: Content) -> str:
    data = {
        "curve": dict(content.curve),
        "steps_per_epoch": content.steps_per_epoch,
        "moments": list(content.moments),
        "parts": [_packed(part) for part in content.parts],
        "standing": [asdict(one) for one in content.standing],
    }
    return to_json(data).replace("</", "<\\/").replace("<!--", "<\\u0021--")


def _packed(part: Part) -> dict[str, Any]:
    """A part for the page's script; arrays as base64 of little-endian numbers."""
    scale = float(np.abs(part.weight).max(initial=0)) or 1.0
    last = len(part.counts) - 1
    alive = (part.live >> np.uint32(last) & np.uint32(1)).astype(bool)
    acts = (part.states >> np.uint32(last) & np.uint32(1)).astype(bool)
    live = acts & alive[part.source] & alive[part.target]
    group = np.repeat(np.arange(len(part.groups)), np.diff(part.first))
    source, target = part.source[live], part.target[live]
    return {
        "title": part.title,
        "whole": not part.name,
        "groups": [{"name": g.name, "nodes": len(g.labels), "full": g.full} for g in part.groups],
        "labels": _base64(np.concatenate([g.labels for g in part.groups]), "<u4"),
        "source": _base64(part.source, "<u4"),
        "target": _base64(part.target, "<u4"),
        "weight": _base64(np.round(part.weight / scale * 32767), "<i2"),
        "scale": scale,
        "states": _base64(part.states, "<u4"),
        "live": _base64(part.live, "<u4"),
        "slot": _base64(part.slot, "<u4"),
        "counts": [[c.acting, c.live_edges, c.live_nodes] for c in part.counts],
        "left_out": part.left_out,
        "degrees_in": _histogram(np.bincount(target, minlength=len(alive))[alive & (group > 0)]),
        "degrees_out": _histogram(np.bincount(source, minlength=len(alive))[alive & (group < group.max())]),
        "lengths": np.bincount(group[target] - group[source])[1:].tolist() if len(source) else [],
    }


def _base64(values: NDArray, form: str) -> str:
    return base64.b64encode(values.astype(form).tobytes()).decode("ascii")


def _histogram(degrees: NDArray[np.int64], most: int = 60) -> list[int]:
    """How many nodes have each degree; those above `most` are counted with it."""
    return np.bincount(degrees.clip(max=most)).tolist()


def _sections(content: Content) -> list[str]:
    return [
        _own("wiring.html") if content.parts else "",
        _distributions(content),
        _curves(content),
        _costs(content),
        _standing(content),
        _architecture(content),
        _settings(content),
    ]


def _curves(content: Content) -> str:
    if not content.curve:
        return ""
    names = ("curve-loss", "curve-top1", "curve-lr", "curve-swapped", "curve-live")
    return f'<section><h2>Curves</h2><div class="charts">{_charts(names)}</div></section>'


def _charts(names: Sequence[str]) -> str:
    return "".join(f'<div class="chart" id="{name}"></div>' for name in names)


def _distributions(content: Content) -> str:
    """Of the part that the picture shows."""
    if not content.parts:
        return ""
    charts = f'<h3 id="distributions"></h3><div class="charts">{_charts(("degrees", "lengths"))}</div>'
    return f"<section><h2>Degrees and lengths of edges</h2>{charts}</section>"


def _costs(content: Content) -> str:
    if content.profile is None:
        return ""
    return f"<section><h2>What it costs</h2>{_profile(content.profile)}{_latency(content)}</section>"


def _profile(profile: Profile) -> str:
    wired = bool(profile.wired)
    heads = ["layer", "output", "parameters", "multiply-adds"]
    heads += ["possible", "kept", "acting", "live edges", "live nodes"] * wired
    rows = []
    for layer in profile.layers:
        row = [layer.name, layer.output, f"{layer.parameters:,}", f"{layer.multiply_adds:,}"]
        if isinstance(layer, WiredLayer):
            row += [f"{n:,}" for n in (layer.possible, layer.kept, layer.acting, layer.live)]
            row.append(f"{layer.live_nodes:,} of {layer.nodes:,}")
        rows.append([*row, *[""] * (len(heads) - len(row))])
    last = ["live" if wired else "sum", "", f"{profile.live_parameters:,}", f"{profile.live_multiply_adds:,}"]
    counted = "as counted in 2019" if profile.count == "2019" else "biases and norms included"
    size = f"an image of {profile.image_size}x{profile.image_size} pixels"
    text = f"{profile.parameters:,} parameters ({counted}), {profile.multiply_adds:,} multiply-adds for {size}."
    table = _table(heads, rows, [*last, *[""] * (len(heads) - len(last))])
    if len(rows) > 24:
        table = f"<details><summary>all {len(rows)} layers</summary>{table}</details>"
    return f"{table}<p>{text}</p>"


def _latency(content: Content) -> str:
    """What one image takes beside what its multiply-adds promise."""
    if not content.latencies or content.profile is None:
        return ""
    network = content.latencies[0].milliseconds
    live = content.profile.live_multiply_adds
    rows = []
    for one in content.latencies:
        name = "network as it is" if one.engine == "network" else f"engine {one.engine}"
        if one.milliseconds is None or not network:
            rows.append([name, "", "", one.note, ""])
            continue
        dense = content.dense_multiply_adds if one.engine == "network" else None
        needed = live if dense is None else dense
        speed = f"{needed / one.milliseconds / 1e6:,.2f}"
        times = f"{network / one.milliseconds:.2f} times"
        rows.append([name, f"{needed:,}", f"{one.milliseconds:.3g}", times, speed])
    heads = ["one image", "multiply-adds needed", "milliseconds", "as fast as the network", "billion a second"]
    promise = ""
    if content.dense_multiply_adds and live:
        promise = f" By multiply-adds alone, the live edges promise {content.dense_multiply_adds / live:.1f} times."
    note = (
        f"Median of a few calls with one image, measured when this page was made, {escape(content.machine)}.{promise}"
    )
    return f'<h3>Theory and measurement</h3>{_table(heads, rows)}<p class="small">{note}</p>'


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], total: Sequence[str] = ()) -> str:
    def row(cells: Sequence[str], kind: str = "") -> str:
        return f"<tr{kind}>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"

    head = "".join(f"<th>{escape(cell)}</th>" for cell in heads)
    body = "".join(map(row, rows)) + (row(total, ' class="total"') if total else "")
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _standing(content: Content) -> str:
    if not content.standing:
        return ""
    sources = "published: Table 1 of the MicroNet submission of Discovering Neural Wirings (2019), on ImageNet"
    if any(one.origin == "recorded here" for one in content.standing):
        sources += "; recorded here: finished trainings in this project's results"
    charts = _charts(("standing-operations", "standing-parameters"))
    return (
        f'<section class="tall"><h2>Among other networks</h2><div class="charts">{charts}</div>'
        f'<p class="small">Accuracies on different data sets (colours) are not comparable. {sources}.</p></section>'
    )


def _architecture(content: Content) -> str:
    if not content.architecture:
        return ""
    drawing = f'<div class="framed">{content.architecture}</div>'
    if content.parts:
        drawing = f"<details><summary>operations from the image to the logits</summary>{drawing}</details>"
    return f'<section id="architecture"><h2>Architecture</h2>{drawing}</section>'


def _settings(content: Content) -> str:
    if not content.settings:
        return ""
    text = escape(content.settings)
    return f"<section><h2>Settings</h2><details><summary>as an app file</summary><pre>{text}</pre></details></section>"


def read_data(page: str) -> dict[str, Any]:
    """The numbers that a page carries, back from its text.

    Raises ValueError where it is no such page.
    """
    _, found, rest = page.partition('<script type="application/json" id="data">')
    if not found:
        raise ValueError("this is no page of a run")
    return json.loads(rest.partition("</script>")[0])
