r"""Flow matching, a reference from outside the family: no functional is descended.

    min_v E | v(x_0 + t V(x_0), t) - V(x_0) |^2,      x_0 ~ mu_0,  t ~ U[0, 1],

for the displacements V of a coupling of mu_0 and nu, `independent` pairs or `minibatch_ot` (OT-CFM); samples follow
dx/dt = v(x, t) from mu_0, and the minimiser E[V | x_t] carries mu_0 to nu. Sources: Y. Lipman et al. Flow matching for
generative modeling. ICLR 2023; A. Tong et al., TMLR 2024 (minibatch optimal transport).
"""

from dataclasses import dataclass

import torch
from torch import nn

from gwf import fields
from gwf.nets.transport import Transport
from gwf.training import base, settings
from gwf.training.source import Shaped


@dataclass(frozen=True)
class MatchingSettings(settings.Settings):
    ode_steps: int = 20  # of Euler's method per sample


class Flow(nn.Module):
    """T(x) by Euler's method: x <- x + v(x, t) / steps at t = 0, 1 / steps, ..."""

    def __init__(self, shape, steps):
        super().__init__()
        self.v, self.steps = Transport(shape, 1), steps

    def forward(self, x):
        x = x[:, : self.v.d]
        for i in range(self.steps):
            x = x + self.v(x, x.new_full((len(x), 1), i / self.steps)) / self.steps
        return x


class Matching(base.Trainer):
    """One regression step on fresh pairs and times."""

    title = "flow matching"
    Settings = MatchingSettings
    phase = staticmethod(lambda: 1)  # there are no time steps

    def __init__(self, functional, task, settings, seed, device):
        super().__init__(functional, Shaped(task), settings, seed, device)
        self.pairs, self.v = fields.get(functional), self.fast(self.T.v)

    @staticmethod
    def takes(functional):
        """Fields whose displacement ends at a data point."""
        return functional in ("independent", "minibatch_ot")

    def networks(self, functional):
        return Flow(self.task.shape, self.settings.ode_steps).to(self.device), nn.ModuleList()

    def update(self):
        x, y = self.draw_latent()[:, : self.task.d], self.draw_data()
        V, t = self.pairs(x, y), torch.rand(len(x), 1, generator=self.streams["latent"], device=x.device)
        loss = (self.v(torch.cat([x + t * V, t], 1)) - V).square().sum() / len(x)
        self.descend(self.opt_T, loss)
        self.average.update()
        self.step += 1
        return loss.new_zeros(()), loss.detach(), loss.new_zeros(())
