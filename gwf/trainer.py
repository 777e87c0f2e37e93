"""The state of one training run and its update: alternating losses (JKO, GAN), or regression on pushed samples (Euler)."""

import torch
from torch import nn

from gwf.seeding import derive, generator


class Trainer:
    """What every run has: map, its average, its optimiser, random streams, counters. The update is the subclass's.

    Parameters
    ----------
    recipe : see `gwf.recipes`
    task : see `gwf.tasks`
    settings : dict
        Checked by `gwf.recipes.check`.
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


class ImplicitTrainer(Trainer):
    """The JKO step and its limit, the GAN.

    One update is, with x = T(z) evaluated once and the two nets' batches y and z:

        critic:  minimise  -bound(h(x), h(y)) + weight * penalty(h)         (no gradient reaches T)
        map:     minimise  F-part of the bound at x + |x - T_k(z)|^2 / (2 tau)   (with the critic just updated)
        every `phase` updates:  T_k <- T

    The papers' released loops draw a second z for the map's step; using x = T(z) again saves a pass through T and
    changes no expectation. Critic, optimisers and averages go on from one JKO step to the next, as there.
    """

    def __init__(self, recipe, task, settings, seed, device):
        super().__init__(recipe, task, settings, seed, device)
        self.step_of = recipe.build(self.T, self.critic, settings)
        self.opt_h = self.adam(self.critic, settings["lr_critic"])

    def update(self):
        """One alternating update; see `Trainer.update`."""
        y, z = self.draw_data(), self.draw_latent()
        with self.precision():
            x = self.T(z)
            critic_loss = self.step_of.critic_loss(x, y, self.streams["penalty"], self.step)
        self.descend(self.opt_h, critic_loss)

        # The critic's weights need no gradient here, only the image it looks at.
        self.critic.requires_grad_(False)
        with self.precision():
            map_loss, proximal = self.step_of.map_loss(x, z, y)
        self.descend(self.opt_T, map_loss + proximal)
        self.critic.requires_grad_(True)

        self.average.update_parameters(self.T)
        self.step += 1
        if self.step % self.settings["phase"] == 0:
            self.step_of.prox.advance()
        return critic_loss.detach(), map_loss.detach(), proximal.detach()

    def state_dict(self):
        """Everything the rest of the run depends on."""
        prox = self.step_of.prox
        anchor = prox.T_k.state_dict() if prox.active else None
        return super().state_dict() | {"opt_h": self.opt_h.state_dict(), "T_k": anchor}

    def load_state_dict(self, state):
        """Go on from where `state_dict` was taken."""
        super().load_state_dict(state)
        self.opt_h.load_state_dict(state["opt_h"])
        if self.step_of.prox.active:
            self.step_of.prox.T_k.load_state_dict(state["T_k"])


class ExplicitTrainer(Trainer):
    """The forward Euler step on frozen targets (`gwf.flows.euler`), one regression step at a time.

        every `phase` updates:   improve the field on fresh batches;   z fresh,   zeta <- T(z) + tau V(T(z)), frozen
        map:                     minimise |T(z) - zeta|^2, on the same z and zeta until the next ones

    `phase` is the updates of the map per time step in either family: here, the persistency. `tau` is the size of the
    step: here, eps. The penalties' weights are those of the field's potentials.
    """

    def __init__(self, recipe, task, settings, seed, device):
        super().__init__(recipe, task, settings, seed, device)
        self.field = recipe.field(list(self.critic), settings)
        self.frozen = None
        self.critic_loss = torch.zeros((), device=device)

    def networks(self, recipe):
        """Map, and as many potentials as the field has."""
        T, critic = self.task.networks()
        critics = [critic, *(self.task.networks()[1] for _ in range(recipe.potentials - 1))]
        return T, nn.ModuleList(critics[: recipe.potentials])

    def freeze(self):
        """Improve the field, then freeze latents and pushed samples. Returns T(z), whose graph the next update uses."""
        for _ in range(self.field.critic_steps):
            y, z = self.draw_data(), self.draw_latent()
            with torch.no_grad(), self.precision():
                x = self.T(z)
            with self.precision():
                loss = self.field.loss(x.float(), y, self.streams["penalty"])
            self.descend(self.field.optimiser, loss)
            self.critic_loss = loss.detach()
        other = None
        if self.field.needs_other:
            with torch.no_grad(), self.precision():
                other = self.T(self.draw_latent()).float()
        y, z = self.draw_data(), self.draw_latent()
        with self.precision():
            x = self.T(z)
        at = x.detach().float()
        self.frozen = z, at + self.settings["tau"] * self.field(at, y, other, self.streams["penalty"])
        return x

    def update(self):
        """One regression step, on a new target every `phase` updates; see `Trainer.update`."""
        if self.step % self.settings["phase"] == 0:
            x = self.freeze()
        else:
            with self.precision():
                x = self.T(self.frozen[0])
        loss = (x.float() - self.frozen[1]).square().sum() / len(x)
        self.descend(self.opt_T, loss)
        self.average.update_parameters(self.T)
        self.step += 1
        return self.critic_loss, loss.detach(), loss.new_zeros(())

    def state_dict(self):
        """Everything the rest of the run depends on."""
        return super().state_dict() | {"field": self.field.state_dict(), "frozen": self.frozen, "critic_loss": self.critic_loss}

    def load_state_dict(self, state):
        """Go on from where `state_dict` was taken."""
        super().load_state_dict(state)
        self.field.load_state_dict(state["field"])
        self.frozen, self.critic_loss = state["frozen"], state["critic_loss"]


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
