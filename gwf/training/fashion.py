"""28x28 photographs of clothes: the networks and the source of the digits."""

import torch

from gwf.data.embedded import to_model
from gwf.data.fashion import fashion
from gwf.training import digits


class Task(digits.Task):
    """Generate clothes from mu_0 = N(0, I_32). Training sees the 8000 train photographs."""

    def __init__(self, seed, device):
        self.device, self.seed = device, seed
        self._train = to_model(fashion().train).to(device).contiguous(memory_format=torch.channels_last)
