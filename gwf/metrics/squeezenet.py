"""SqueezeNet 1.1, learned on ImageNet: a second extractor, which never saw the data whose samples it measures.

The LeNet of `gwf.metrics.lenet` sees classes; these features see noise and blur. The weights lie in `embedded/squeezenet`, in
float16. Source: F. Iandola et al. SqueezeNet: AlexNet-level accuracy with 50x fewer parameters. arXiv 1602.07360.
"""

import hashlib

import torch
import torch.nn.functional as F
from safetensors.torch import load as parse
from torch import nn

from gwf.data.embedded import DataError, to_model
from gwf.errors import UsageError
from gwf.paths import ROOT

WEIGHTS = ROOT / "embedded" / "squeezenet" / "squeezenet.safetensors"
SHA256 = "1662da68a0daecc80462af39d578d22cfd90eafc6153bc4305367b93cb84e622"
SIDE = 64
"""Pixels to which the sides of small images are enlarged: the last maps are 3 x 3 then; 28 are too few for its three halvings."""
MEANS = (103.939, 116.779, 123.68)
"""Blue, green and red on ImageNet, in 0..255; the hundredths are the usual ones and move a distance by less than 1 %."""


class Fire(nn.Module):
    """relu of a 1x1 and a 3x3 convolution, `wide` channels each, of the relu of a 1x1 convolution to `narrow` channels."""

    def __init__(self, channels, narrow, wide):
        super().__init__()
        self.squeeze1x1 = nn.Conv2d(channels, narrow, 1)
        self.expand1x1 = nn.Conv2d(narrow, wide, 1)
        self.expand3x3 = nn.Conv2d(narrow, wide, 3, padding=1)

    def forward(self, x):
        x = self.squeeze1x1(x).relu()
        return torch.cat([self.expand1x1(x), self.expand3x3(x)], 1).relu()


class SqueezeNet(nn.Module):
    """Classifier of photographs x (n, 3, h, w), blue, green and red minus `MEANS`: `num_features` = 512, 1000 classes."""

    num_features = 512

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, stride=2)
        narrow, wide = (16, 16, 32, 32, 48, 48, 64, 64), (64, 64, 128, 128, 192, 192, 256, 256)
        channels = (64, *(2 * w for w in wide[:-1]))
        self.fires = nn.ModuleList(map(Fire, channels, narrow, wide))
        self.conv10 = nn.Conv2d(self.num_features, 1000, 1)

    def maps(self, x):
        """The last maps (n, 512, h', w')."""
        x = self.conv1(x).relu()
        for index, fire in enumerate(self.fires):
            x = fire(F.max_pool2d(x, 3, 2) if index in (0, 2, 4) else x)
        return x

    def forward(self, x):
        """Class scores (n, 1000): means over the places of an image."""
        return self.conv10(self.maps(x)).relu().mean((2, 3))


def load():
    """The embedded `SqueezeNet`, in float32 and evaluation mode, and the sha256 of its file; `DataError` if that is damaged."""
    content = WEIGHTS.read_bytes() if WEIGHTS.is_file() else b""
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise DataError(f"{WEIGHTS} is {'damaged' if content else 'missing'}: `git checkout embedded` brings it")
    net = SqueezeNet()
    net.load_state_dict({name: value.float() for name, value in parse(content).items()})
    return net.to(memory_format=torch.channels_last).eval(), SHA256


@torch.inference_mode()
def extract(net, images, batch=250):
    """Features, float32 (n, 512), of grey images, uint8 (n, h, w): means of the last maps over an image enlarged to `SIDE`."""
    features, means = [], torch.tensor(MEANS).view(3, 1, 1)
    for start in range(0, len(images), batch):
        x = (to_model(images[start : start + batch]) + 1) * 127.5
        x = F.interpolate(x, (SIDE, SIDE), mode="bilinear") - means
        features.append(net.maps(x.contiguous(memory_format=torch.channels_last)).mean((2, 3)))
    if not features:
        raise UsageError("there are no images to measure")
    return torch.cat(features).numpy()
