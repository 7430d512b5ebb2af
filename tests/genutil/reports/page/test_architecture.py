from __future__ import annotations

from xml.etree import ElementTree

import models
from genutil.reports.page.architecture import drawing
from genutil.reports.page.latency import measure


def test_every_operation_has_its_box_and_its_lines():
    network = models.build_network("resnet", classes=10, depth=8, in_channels=1)
    tree = ElementTree.fromstring(drawing(network, 32, 1))
    texts = [text.text for text in tree.iter("text")]
    assert any("linear, 10" in text for text in texts)
    assert sum("conv 3x3" in text for text in texts) == 7
    boxes, lines = list(tree.iter("rect")), list(tree.iter("path"))
    assert len(boxes) == len(list(tree.iter("g")))
    assert len(lines) >= len(boxes) - 1
    wide, high = float(tree.get("width")), float(tree.get("height"))
    for box in boxes:
        assert 0 <= float(box.get("x")) <= wide - float(box.get("width"))
        assert 0 <= float(box.get("y")) <= high - float(box.get("height"))


def test_a_network_without_wiring_is_timed_as_it_is():
    (one,) = measure(models.build_network("resnet", classes=10, depth=8, in_channels=1), 32, 1)
    assert one.engine == "network"
    assert one.milliseconds > 0


def test_every_engine_that_can_run_is_timed():
    options = {"image_size": 16, "in_channels": 1, "dim": 60, "downsample_dim": 12, "feature_dim": 12, "layers": 4}
    network = models.build_network("static", classes=10, wiring="dnw", prune_rate=0.7, **options)
    found = {one.engine: one for one in measure(network, 16, 1)}
    assert {"network", "pruned", "csr", "native"} == set(found)
    assert all(one.milliseconds is not None or one.note for one in found.values())
    assert found["pruned"].milliseconds > 0
