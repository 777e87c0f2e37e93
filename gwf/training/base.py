"""What all time steps share: the name of a method, and the state of one training run."""

from dataclasses import dataclass

import torch

from gwf.seeding import derive, generator


@dataclass(frozen=True)
class Recipe:
    """One choice of functional and time step."""

    functional: str
    step: str

    @property
    def name(self):
        """`<functional>-<step>`."""
        return f"{self.functional}-{self.step}"


class Trainer:
    """What every run has: map, its average, its optimiser, random streams, counters. The update is the time step's.

    Parameters
    ----------
    recipe : see `gwf.training.recipes`
    task : see `gwf.training.tasks`
    settings : dict
        Checked by `gwf.training.recipes.check`.
    seed : int
    device : torch.device
    """

    def __init__(self, recipe, task, settings, seed, device):
        self.task, self.settings, self.device = task, settings, device
        # The weights are drawn on the CPU: the same start on every device.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(seed, "weights"))
            self.T, self.critic = self.networks(recipe)
        self.average = torch.optim.swa_utils.AveragedModel(
            self.T, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(settings["ema"]), use_buffers=True
        )
        self.opt_T = self.adam(self.T, settings["lr_map"])
        # Processes of a distributed run start from the same weights and draw different batches.
        rank = torch.distributed.get_rank() if distributed() else 0
        names = {name: f"{name} of process {rank}" if rank else name for name in ("data", "latent", "penalty")}
        self.streams = {name: generator(seed, stream, device) for name, stream in names.items()}
        self.step = 0
        self.seconds = 0.0
        self.curve = []

    def networks(self, recipe):
        """Map and critic."""
        return self.task.networks()

    def adam(self, net, lr):
        """Adam as the papers' image experiments set it."""
        return torch.optim.Adam(net.parameters(), lr=lr, betas=(0.5, 0.9), fused=True)

    def update(self):
        """One update of the map. Returns (critic loss, map loss, proximal term) as tensors without graph."""
        raise NotImplementedError

    def draw_data(self):
        """y, a batch of data."""
        return self.task.data(self.settings["batch"], self.streams["data"])

    def draw_latent(self):
        """z, a batch of latents."""
        return self.task.latent(self.settings["batch"], self.streams["latent"])

    def precision(self):
        """Mixed precision (bfloat16 products, float32 weights and losses) if the settings ask for `amp`."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.settings["amp"])

    def descend(self, optimiser, loss):
        """One optimiser step on `loss`, with gradients averaged over processes if there are several."""
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        average_gradients(p for group in optimiser.param_groups for p in group["params"])
        optimiser.step()

    def averaged_map(self):
        """The map with exponentially averaged weights and batch-norm statistics: what is measured and stored."""
        return self.average.module.eval()

    def state_dict(self):
        """Everything the rest of the run depends on."""
        return {
            "T": self.T.state_dict(),
            "critic": self.critic.state_dict(),
            "average": self.average.state_dict(),
            "opt_T": self.opt_T.state_dict(),
            "streams": {name: stream.get_state() for name, stream in self.streams.items()},
            "step": self.step,
            "seconds": self.seconds,
            "curve": self.curve,
        }

    def load_state_dict(self, state):
        """Go on from where `state_dict` was taken."""
        self.T.load_state_dict(state["T"])
        self.critic.load_state_dict(state["critic"])
        self.average.load_state_dict(state["average"])
        self.opt_T.load_state_dict(state["opt_T"])
        for name, stream in self.streams.items():
            stream.set_state(state["streams"][name].cpu())
        self.step, self.seconds, self.curve = state["step"], state["seconds"], state["curve"]


def distributed():
    """Whether this process is one of several that train together."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def average_gradients(parameters):
    """Average gradients over the processes of a distributed run; nothing in a single one.

    By hand, since DistributedDataParallel's hooks do not mix with gradients of gradients.
    """
    if not distributed():
        return
    for p in parameters:
        if p.grad is not None:
            torch.distributed.all_reduce(p.grad)
            p.grad /= torch.distributed.get_world_size()
