"""How the axes of the pictures look, on a light page and on a dark one."""

from __future__ import annotations

from matplotlib.axes import Axes

GREY = "#8c8c8c"


def dress(axes: Axes, x: str, y: str) -> None:
    """Name the axes, and draw them in grey on nothing."""
    axes.set_xlabel(x, color=GREY)
    axes.set_ylabel(y, color=GREY)
    axes.set_facecolor("none")
    axes.grid(color=GREY, alpha=0.25, lw=0.5)
    axes.tick_params(colors=GREY, which="both", labelsize=8)
    for spine in axes.spines.values():
        spine.set_color(GREY)
