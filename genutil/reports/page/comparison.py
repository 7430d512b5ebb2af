"""The page of a comparison: one self-contained HTML file with runs in the plane of any two of their quantities."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from genutil.errors import UserError
from genutil.reports.comparison import QUANTITIES, ComparedRun, columns_of, mean_runs
from genutil.reports.page.document import plotly_script
from genutil.system.files import to_json

HERE = Path(__file__).parent


def render_comparison(runs: Sequence[ComparedRun], x: str | None = None, y: str | None = None) -> str:
    """The page, which needs neither files nor a network.

    Args:
        runs: each by itself; the page also shows means over seeds.
        x, y: the quantities that it begins with; the accuracy over the multiply-adds where None and both are known.

    Raises:
        UserError: no run has the quantity.
    """
    known = columns_of(runs)
    data = {
        "quantities": [{"key": key, "title": QUANTITIES[key].title, "log": QUANTITIES[key].log} for key in known],
        "runs": [run.to_dict() for run in runs],
        "means": [run.to_dict() for run in mean_runs(runs)],
        "x": _axis(x, known, ("multiply_adds", "parameters")),
        "y": _axis(y, known, ("top1",)),
    }
    values = {
        "title": "Comparison of runs",
        "summary": escape(f"{len(runs)} run{'' if len(runs) == 1 else 's'}"),
        "style": (HERE / "page.css").read_text(encoding="utf-8"),
        "data": to_json(data).replace("</", "<\\/").replace("<!--", "<\\u0021--"),
        "plotly": plotly_script(),
        "script": (HERE / "comparison.js").read_text(encoding="utf-8"),
    }
    pieces = (HERE / "comparison.html").read_text(encoding="utf-8").split("@")
    return "".join(values.get(piece, piece) if i % 2 else piece for i, piece in enumerate(pieces))


def _axis(asked: str | None, known: Sequence[str], usual: Sequence[str]) -> str:
    if asked is not None:
        if asked not in known:
            raise UserError(f"No run has the quantity {asked}; they have {', '.join(known)}.")
        return asked
    return next((key for key in usual if key in known), known[0])
