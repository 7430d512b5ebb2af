"""A network's architecture as a drawing of the page (SVG): its operations from the image down, and what feeds what."""

from __future__ import annotations

from html import escape

import torch
from torch import nn

from genutil.reports.pictures import merge, places, trace

WIDE, HIGH, ACROSS, DOWN, EDGE = 230, 40, 250, 58, 60
"""Pixels: of a box; between the corners of neighbours; of the margin."""


def drawing(network: nn.Module, image_size: int, in_channels: int) -> str:
    """The drawing of a network as it computes for one image of in_channels x image_size x image_size."""
    boxes = merge(trace(network, torch.zeros(1, in_channels, image_size, image_size)))
    spots = places(boxes)
    left = min(column for column, _ in spots)
    corners = [(EDGE + (column - left) * ACROSS, EDGE / 3 + row * DOWN) for column, row in spots]
    lines, shapes = [], []
    for i, box in enumerate(boxes):
        lines += [_line(corners[source], corners[i], spots[i][1] - spots[source][1]) for source in box.sources]
        x, y = corners[i]
        name = escape(", ".join(box.labels))
        note = escape(" · ".join(filter(None, [box.module, " x ".join(map(str, box.shape))])))
        size = min(12.0, 1.9 * WIDE / max(len(name), 1))
        shapes.append(
            f'<g class="{box.kind or "other"}"><rect x="{x:.0f}" y="{y:.0f}" width="{WIDE}" height="{HIGH}" rx="6"/>'
            f'<text x="{x + WIDE / 2:.0f}" y="{y + 17:.0f}" style="font-size:{size:.1f}px">{name}</text>'
            f'<text x="{x + WIDE / 2:.0f}" y="{y + 32:.0f}" class="note">{note}</text></g>'
        )
    width = max(x for x, _ in corners) + WIDE + EDGE
    height = max(y for _, y in corners) + HIGH + EDGE / 3
    size_of = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
    return f'<svg class="architecture" role="img" {size_of}>{"".join(lines)}{"".join(shapes)}</svg>'


def _line(start: tuple[float, float], end: tuple[float, float], rows: int) -> str:
    """A line down to the next row; past boxes in between it takes a bow to the right."""
    (x0, y0), (x1, y1) = (start[0] + WIDE / 2, start[1] + HIGH), (end[0] + WIDE / 2, end[1])
    if rows == 1:
        return f'<path d="M{x0:.0f} {y0:.0f}C{x0:.0f} {y0 + 9:.0f} {x1:.0f} {y1 - 9:.0f} {x1:.0f} {y1:.0f}"/>'
    side = max(start[0], end[0]) + WIDE
    bow = side + min(18 + 4 * rows, EDGE - 4)
    y0, y1 = start[1] + HIGH / 2, end[1] + HIGH / 2
    x0, x1 = start[0] + WIDE, end[0] + WIDE
    return f'<path d="M{x0:.0f} {y0:.0f}C{bow:.0f} {y0:.0f} {bow:.0f} {y1:.0f} {x1:.0f} {y1:.0f}"/>'
