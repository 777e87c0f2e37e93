"""Networks: fast kernels compute the library's function, shapes and sizes are as said."""

import pytest
import torch
from torch.nn import functional as F

from gwf.nets.conv import ConvCritic, ConvMap
from gwf.nets.mlp import MLP, ResidualMLP
from gwf.nets.stride2 import DownFromOne, UpToOne


@pytest.fixture(autouse=True)
def float64():
    """Differences are then rounding alone: sums of at most 512 products of order one, 512 * 1e-16 < 1e-12."""
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def derivatives(op, x, weight):
    """Value, gradients, and the gradient of a squared gradient, which is what the R1 penalty needs."""
    y = op(x)
    direction = torch.randn(y.shape, generator=torch.Generator().manual_seed(1))
    gx, gw = torch.autograd.grad(y, (x, weight), direction, create_graph=True)
    (second,) = torch.autograd.grad(gx.square().sum(), weight)
    return y.detach(), gx.detach(), gw.detach(), second


@pytest.mark.parametrize("height", [6, 28])
def test_down_is_the_librarys_convolution(height):
    net = DownFromOne(16)
    x = torch.randn(3, 1, height, 28, requires_grad=True)
    reference = lambda x: F.conv2d(x, net.weight, net.bias, stride=2, padding=1)  # noqa: E731
    for ours, theirs in zip(derivatives(net, x, net.weight), derivatives(reference, x, net.weight), strict=True):
        assert (ours - theirs).abs().max() < 1e-12


def test_up_is_the_librarys_transposed_convolution():
    net = UpToOne(32)
    x = torch.randn(3, 32, 14, 7, requires_grad=True)
    reference = lambda x: F.conv_transpose2d(x, net.weight, net.bias, stride=2, padding=1)  # noqa: E731
    for ours, theirs in zip(derivatives(net, x, net.weight), derivatives(reference, x, net.weight), strict=True):
        assert (ours - theirs).abs().max() < 1e-11


def test_an_unflipped_kernel_is_caught():
    """Negative control: a transposed convolution without the reversal of its window is another function."""
    net = UpToOne(4)
    x = torch.randn(1, 4, 6, 6)
    wrong = F.conv_transpose2d(x, net.weight.flip(2, 3), net.bias, stride=2, padding=1)
    assert (net(x) - wrong).abs().max() > 0.1


def test_sizes():
    T, h = ConvMap(), ConvCritic()
    x = T(torch.randn(5, 32))
    assert x.shape == (5, 1, 28, 28) and x.abs().max() <= 1
    assert h(x).shape == (5, 1)
    assert sum(p.numel() for p in T.parameters()) == 136_993
    assert sum(p.numel() for p in h.parameters()) == 209_457
    assert MLP(2, 1)(torch.randn(4, 2)).shape == (4, 1)


def test_the_residual_map_starts_at_the_identity():
    z = torch.randn(4, 3)
    assert torch.equal(ResidualMLP(3)(z), z)
