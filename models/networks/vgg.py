"""VGG for small images: Simonyan and Zisserman 2014 (arXiv 1409.1556), with norms and one linear layer."""

from __future__ import annotations

from torch import Tensor, nn

CONVS_IN_A_GROUP = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
WIDTHS = (64, 128, 256, 512, 512)


class VGG(nn.Module):
    """Five groups of (3x3 conv with bias, BN, ReLU), each ended by a 2x2 max pool; mean; linear.

    depth: 11, 13, 16 or 19, the layers with weights when there were three linear ones. bn_epsilon,
    bn_momentum: of the norms. Input [n, in_channels, side, side] with a side of at least 32, output [n,
    classes]. ValueError: another depth.
    """

    def __init__(
        self,
        *,
        depth: int = 16,
        width_mult: float = 1.0,
        bn_epsilon: float = 1e-5,
        bn_momentum: float = 0.1,
        in_channels: int = 3,
        classes: int = 10,
    ) -> None:
        super().__init__()
        self.image_size = 32
        if depth not in CONVS_IN_A_GROUP:
            raise ValueError(f"VGG has a depth of {', '.join(map(str, CONVS_IN_A_GROUP))}, not {depth}")
        self.features = nn.Sequential()
        channels = in_channels
        for length, base in zip(CONVS_IN_A_GROUP[depth], WIDTHS, strict=True):
            width = int(base * width_mult)
            for _ in range(length):
                self.features.append(nn.Conv2d(channels, width, 3, padding=1))
                self.features.append(nn.BatchNorm2d(width, eps=bn_epsilon, momentum=bn_momentum))
                self.features.append(nn.ReLU(inplace=True))
                channels = width
            self.features.append(nn.MaxPool2d(2))
        self.linear = nn.Linear(channels, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, images: Tensor) -> Tensor:
        return self.linear(self.features(images).mean((2, 3)))
