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
