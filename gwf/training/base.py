"""What all time steps share: the state of one training run."""

import copy

import torch
from torch import nn

from gwf.seeding import derive, generator


class Trainer:
    """What every run has: map, its average, its optimiser, random streams, counters.

    A time step adds `takes(functional)`, whether it can use the functional of that name; `update()`, one update of the
    map, which returns (critic loss, map loss, proximal term) as tensors without graph; `phase()`, the number of the
    time step that the latest update belongs to, from 1; its `Settings` and its `title`. `T` and `critic` are the
    networks in full precision, the critic an empty list where there is none; `curve` has a row of losses and
    `samples` the samples of each evaluation; the task is one of `gwf.training.tasks`.
    """

    #: Attributes that a checkpoint keeps as they are.
    kept = ("step", "seconds", "curve")

    def __init__(self, functional, task, settings, seed, device):
        self.task, self.settings, self.device = task, settings, device
        # The weights are drawn on the CPU: the same start on every device.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(seed, "weights"))
            self.T, self.critic = self.networks(functional)
        self.average = Average(self.T, settings.ema)
        self.opt_T = self.adam(self.T, settings.lr_map)
        # Processes of a distributed run start from the same weights and draw different batches.
        rank = torch.distributed.get_rank() if distributed() else 0
        names = {name: f"{name} of process {rank}" if rank else name for name in ("data", "latent", "penalty")}
        self.streams = {name: generator(seed, stream, device) for name, stream in names.items()}
        self.step, self.seconds, self.curve, self.samples = 0, 0.0, [], []

    def networks(self, functional):
        """Map and critic."""
        return self.task.networks()

    def adam(self, net, lr):
        """Adam as the papers' image experiments set it."""
        return torch.optim.Adam(net.parameters(), lr=lr, betas=(0.5, 0.9), fused=True)

    def draw_data(self):
        return self.task.data(self.settings.batch, self.streams["data"])

    def draw_latent(self):
        return self.task.latent(self.settings.batch, self.streams["latent"])

    def fast(self, net):
        """`net` as the updates use it: in mixed precision if the settings ask for `amp`, else itself."""
        return Mixed(net, self.device.type) if self.settings.amp else net

    def descend(self, optimiser, loss):
        """One optimiser step on `loss`, with gradients averaged over processes if there are several."""
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        average_gradients(p for group in optimiser.param_groups for p in group["params"])
        optimiser.step()

    def finite(self):
        """Whether every weight is."""
        return all(bool(torch.isfinite(w).all()) for net in (self.T, self.critic) for w in net.parameters())

    def parts(self):
        """Everything with weights or moments that the rest of the run depends on, by name."""
        return {"T": self.T, "critic": self.critic, "average": self.average.net, "opt_T": self.opt_T}

    def state_dict(self):
        """Everything the rest of the run depends on."""
        return {name: getattr(self, name) for name in self.kept} | {
            "parts": {name: part.state_dict() for name, part in self.parts().items()},
            "streams": {name: stream.get_state() for name, stream in self.streams.items()},
            "samples": [torch.from_numpy(samples) for samples in self.samples],
        }

    def load_state_dict(self, state):
        """Go on from where `state_dict` was taken."""
        for name in self.kept:
            setattr(self, name, state[name])
        for name, part in self.parts().items():
            part.load_state_dict(state["parts"][name])
        for name, stream in self.streams.items():
            stream.set_state(state["streams"][name].cpu())
        self.samples = [samples.cpu().numpy() for samples in state["samples"]]
        self.average.begun = self.step > 0


class Average:
    """Exponential average of a network's weights and buffers, a <- decay a + (1 - decay) w; at first a <- w.

    What `torch.optim.swa_utils.AveragedModel` computes, without reading its counter from the device at every update.
    """

    def __init__(self, net, decay):
        self.net, self.decay, self.begun = copy.deepcopy(net).eval().requires_grad_(False), decay, False
        pairs = list(zip(self.tensors(self.net), self.tensors(net), strict=True))
        self.counts = [pair for pair in pairs if not pair[0].is_floating_point()]
        self.averaged, self.current = zip(*(pair for pair in pairs if pair[0].is_floating_point()), strict=True)

    @staticmethod
    def tensors(net):
        return [tensor.detach() for tensor in (*net.parameters(), *net.buffers())]

    @torch.no_grad()
    def update(self):
        decay, self.begun = self.decay if self.begun else 0.0, True
        torch._foreach_lerp_(self.averaged, self.current, 1 - decay)
        for a, w in self.counts:
            a.copy_(a * decay + w * (1 - decay))


class Mixed(nn.Module):
    """`net` with bfloat16 products; weights, input, output and whatever is computed from it stay in float32."""

    def __init__(self, net, device):
        super().__init__()
        self.net, self.device = net, device

    def forward(self, x):
        with torch.autocast(self.device, torch.bfloat16):
            return self.net(x).float()


def distributed():
    """Whether this process is one of several that train together."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def average_gradients(parameters):
    """Average gradients over processes, by hand: DistributedDataParallel's hooks break gradients of gradients."""
    if not distributed():
        return
    for p in parameters:
        if p.grad is not None:
            torch.distributed.all_reduce(p.grad)
            p.grad /= torch.distributed.get_world_size()
