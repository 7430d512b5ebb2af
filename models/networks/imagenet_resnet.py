"""torchvision's ResNets for ImageNet (He et al. 2015, arXiv 1512.03385; stride on the 3x3 conv), untrained."""

from __future__ import annotations

import torchvision
from torch import nn

DEPTHS = (18, 34, 50, 101, 152)


def imagenet_resnet(*, depth: int = 50, classes: int = 1000) -> nn.Module:
    """ResNet-depth: images [n, 3, side, side], best of 224 pixels, to logits [n, classes].

    Convolutions start He normal by their inputs (Wortsman et al. 2019). Raises ValueError for another depth.
    """
    if depth not in DEPTHS:
        raise ValueError(f"ImageNet's ResNets have a depth of {', '.join(map(str, DEPTHS))}, not {depth}.")
    network = getattr(torchvision.models, f"resnet{depth}")(num_classes=classes)
    network.image_size = 224
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    return network
