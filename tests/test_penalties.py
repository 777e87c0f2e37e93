"""Critic penalties and gradient averaging, where the answer is known."""

import pytest
import torch
import torch.multiprocessing

from gwf.steps.penalties import penalty
from gwf.training.base import average_gradients


class Affine(torch.nn.Module):
    """u(x) = a |x| along the first coordinate: gradient of norm a everywhere."""

    def __init__(self, a):
        super().__init__()
        self.a = torch.nn.Parameter(torch.tensor(float(a)))

    def forward(self, x):
        return self.a * x[:, :1]


@pytest.mark.parametrize("a", [0.5, 1.0, 3.0])
def test_penalties_of_an_affine_critic(a):
    """R1 = a^2 without a factor 1/2; the one-sided Lipschitz penalty is ((a - 1)_+)^2. Exact up to rounding."""
    x, y = torch.randn(2, 8, 3)
    critic = Affine(a)
    for name, exact, slope in [("r1", a**2, 2 * a), ("lipschitz", max(a - 1, 0) ** 2, 2 * max(a - 1, 0))]:
        u, value = penalty(name)(critic, x, y, torch.Generator().manual_seed(0))
        assert torch.equal(u, critic(y))
        assert float(value.detach()) == pytest.approx(exact, abs=1e-5)
        (gradient,) = torch.autograd.grad(value, critic.a)
        assert float(gradient) == pytest.approx(slope, abs=1e-4)


def test_the_lipschitz_penalty_looks_between_the_samples():
    """A critic that is steep only between x and y is penalised; R1, which looks at the data alone, sees nothing."""

    class Bump(torch.nn.Module):
        def forward(self, x):
            return 50 * torch.tanh(10 * (x[:, :1] - 0.5))

    x, y = torch.zeros(256, 1), torch.ones(256, 1) * 5
    _, between = penalty("lipschitz")(Bump(), x, y, torch.Generator().manual_seed(0))
    _, at_data = penalty("r1")(Bump(), x, y)
    assert float(between.detach()) > 1 and float(at_data.detach()) < 1e-6


@pytest.mark.parametrize("a", [0.5, 1.0, 3.0])
def test_penalties_between_the_samples_of_images(a):
    """|grad u| = a for u = a mean(x) sqrt(12) on (1, 3, 4): two-sided (a - 1)^2, interpolated a^2, lipschitz one-sided."""
    x, y = torch.randn(2, 8, 1, 3, 4)
    critic = lambda x: a * 12**0.5 * x.flatten(1).mean(1, keepdim=True)
    exact = {"two_sided": (a - 1) ** 2, "interpolated": a**2, "lipschitz": max(a - 1, 0) ** 2, "r1": a**2}
    for name, value in exact.items():
        u, found = penalty(name)(critic, x, y, torch.Generator().manual_seed(1))
        assert torch.equal(u.detach(), critic(y)) and float(found.detach()) == pytest.approx(value, abs=1e-5)


@pytest.mark.parametrize("name", ["two_sided", "interpolated", "lipschitz"])
def test_penalties_are_taken_at_points_drawn_uniformly_on_the_segments(name):
    """u = |x|^2 between x = 0 and y = 5: |grad u| = 10 a with a uniform, whose moments are 1/2 and 1/3; 20,000 draws, 2 %."""
    x, y = torch.zeros(20_000, 1), torch.full((20_000, 1), 5.0)
    value = float(penalty(name)(torch.square, x, y, torch.Generator().manual_seed(2))[1].detach())
    exact = {"two_sided": 100 / 3 - 10 + 1, "interpolated": 100 / 3, "lipschitz": 81 * 0.9 / 3}[name]
    assert value == pytest.approx(exact, rel=0.02)
    # Not at the other end: of u = |x - 5|^2 the slope between is the same, at the points of y it is 0.
    assert float(penalty("r1")(lambda x: (x - 5).square(), x, y)[1].detach()) == 0


def one_of_two(rank, folder):
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    net = torch.nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        net.weight.fill_(1.0)
    # gradients of gradients, as with R1, before the averaging
    x = torch.tensor([[1.0 + rank, 2.0]], requires_grad=True)
    (gx,) = torch.autograd.grad((net(x) ** 2).sum(), x, create_graph=True)
    gx.square().sum().backward()
    torch.save(net.weight.grad.clone(), f"{folder}/own{rank}")
    average_gradients(net.parameters())
    torch.save(net.weight.grad, f"{folder}/mean{rank}")
    torch.distributed.destroy_process_group()


def test_two_processes_share_their_gradients(tmp_path):
    torch.multiprocessing.spawn(one_of_two, (str(tmp_path),), nprocs=2)
    own = [torch.load(tmp_path / f"own{rank}") for rank in (0, 1)]
    assert not torch.equal(own[0], own[1])
    for rank in (0, 1):
        assert torch.allclose(torch.load(tmp_path / f"mean{rank}"), (own[0] + own[1]) / 2)
