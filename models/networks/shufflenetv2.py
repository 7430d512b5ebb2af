"""ShuffleNetV2 (Ma et al. 2018, arXiv 1807.11164), torchvision's."""

from __future__ import annotations

from torch import nn
from torchvision import models

WIDTHS = {
    0.5: models.shufflenet_v2_x0_5,
    1.0: models.shufflenet_v2_x1_0,
    1.5: models.shufflenet_v2_x1_5,
    2.0: models.shufflenet_v2_x2_0,
}


def shufflenetv2(classes: int, width_mult: float = 1.0) -> nn.Module:
    """Untrained ShuffleNetV2 for [batch, 3, height, width]. Raises ValueError for a width that was not published."""
    if width_mult not in WIDTHS:
        raise ValueError(f"ShuffleNetV2 has the widths {', '.join(map(str, WIDTHS))}, not {width_mult}.")
    network = WIDTHS[width_mult](num_classes=classes)
    network.image_size = 224
    return network
