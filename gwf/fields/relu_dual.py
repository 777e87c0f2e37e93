r"""The gradient of W2's penalised dual by hand, where both potentials are ReLU networks: a third of autograd's time.

A network f(x) = w . z_L + b with z_l = relu(W_l z_{l-1} + b_l), z_0 = x, is linear wherever the signs stay. With m_l the
mask of layer l and g_L = w m_L, g_{l-1} = (g_l W_l) m_{l-1}, its slope is grad f(x) = g_1 W_1. A loss with the adjoints
r (n, 1) of the values and u (n, d) of the slopes of n points has then the gradients

    dL/dW_l = g_l^T (r z_{l-1} + v_{l-1}),      v_0 = u,   v_l = (v_{l-1} W_l^T) m_l,      dL/db_l = g_l^T r:

the chain g that gives the slope is the backward pass too, up to the factors r, and the second derivatives cost one
forward pass v and no product of their own. Autograd does not see this. Derived here; the loss is
`gwf.fields.w2.critic_loss`, with which it agrees to rounding. Chapter `w2flow`.
"""

import torch
from torch import nn


def is_relu_network(net):
    """Whether `net` is a `Sequential` of linear layers with biases, ReLUs between them, and one output."""
    layers = list(net) if isinstance(net, nn.Sequential) else []
    return (
        len(layers) % 2 == 1
        and all(type(m) is nn.Linear and m.bias is not None for m in layers[::2])
        and all(type(m) is nn.ReLU for m in layers[1::2])
        and layers[-1].out_features == 1
    )


class Pass:
    """One pass of a ReLU network over rows x (n, d): `value` (n, 1), the chain g, and gradients of the weights."""

    def __init__(self, net, x):
        *self.hidden, self.last = list(net)[::2]
        self.z = [x]
        for layer in self.hidden:
            self.z.append(torch.addmm(layer.bias, self.z[-1], layer.weight.T).relu_())
        self.value = torch.addmm(self.last.bias, self.z[-1], self.last.weight.T)
        # z_L >= 0, so its sign is the mask.
        self.g = [self.z[-1].sign().mul_(self.last.weight)]
        for layer, z in zip(self.hidden[:0:-1], self.z[-2:0:-1], strict=True):
            self.g.insert(0, masked(self.g[0] @ layer.weight, z))

    def slope(self, n=None):
        """grad f at the first n rows (all of them), (n, d)."""
        return self.g[0][:n] @ self.hidden[0].weight

    def backward(self, r, u=None):
        """Add the weights' gradients for adjoints r (n, 1) of values, u (k, d) of the first k slopes; ends the pass."""
        v, z = u, self.z[0] * r
        for g, layer, ahead in zip(self.g, self.hidden, self.z[1:], strict=True):
            if v is not None:
                z[: len(v)] += v
                v = masked(v @ layer.weight.T, ahead[: len(v)])
            add(layer.weight, g.T @ z)
            add(layer.bias, (r.T @ g)[0])
            z = ahead.mul_(r)
        if v is not None:
            z[: len(v)] += v
        add(self.last.weight, z.sum(0, keepdim=True))
        add(self.last.bias, r.sum(0))


@torch.no_grad()
def slope(net, x):
    """grad f at x (n, d)."""
    return Pass(net, x).slope()


def masked(a, z):
    """a where z > 0, else 0."""
    return torch.ops.aten.threshold_backward(a, z, 0)


def add(weight, gradient):
    weight.grad = gradient if weight.grad is None else weight.grad.add_(gradient)


@torch.no_grad()
def backward(p, e, x, y, weight, generator=None, positive=0.0):
    """Returns `critic_loss` plus positive E (h(x))_+^2, and adds its gradients to those of the weights of p and e."""
    n = len(x)
    a, b = pairs_between(x, y, generator)
    P, E = Pass(p, torch.cat([y, x, a, b])), Pass(e, torch.cat([x, b]))
    p_y, p_x, p_a, p_b = P.value.split(n)
    e_x, e_b = E.value.split(n)
    p_slope = P.slope(2 * n)
    slope_y, slope_x = p_slope[:n], E.slope(n) - p_slope[n:]
    images = torch.cat([y - slope_y, x - slope_x])
    P_T, E_T = Pass(p, images), Pass(e, images[:n])
    image_slope = P_T.slope()

    h_x = e_x - p_x
    near = (p_y + h_x - half_squared(x, y)).clamp_min_(0)
    far = (p_a + e_b - p_b - half_squared(a, b)).clamp_min_(0)
    equal_y = p_y + E_T.value - P_T.value[:n] - half_squared(slope_y)
    equal_x = P_T.value[n:] + h_x - half_squared(slope_x)
    squares = sum(t.square().mean() for t in (near, far, equal_y, equal_x))
    above = h_x.clamp_min(0)
    value = weight * squares - (p_y + h_x).mean() + positive * above.square().mean()

    # Adjoints; those of the values at y and x first.
    for t in (near, far, equal_y, equal_x):
        t *= 2 * weight / n
    r_y, r_x = near + equal_y - 1 / n, near + equal_x - 1 / n + above * (2 * positive / n)
    u_y = -equal_y * (E_T.slope() - image_slope[:n] + slope_y)
    u_x = -equal_x * (image_slope[n:] + slope_x)
    P.backward(torch.cat([r_y, -r_x, far, -far]), torch.cat([u_y, -u_x]))
    E.backward(torch.cat([r_x, far]), u_x)
    P_T.backward(torch.cat([-equal_y, equal_x]))
    E_T.backward(equal_y)
    return value


def pairs_between(x, y, generator=None):
    """(y', x'), both (n, ...): random points between x and y, each on its own, data side first."""
    s, r = torch.rand(2, len(x), *[1] * (x.dim() - 1), generator=generator, device=x.device, dtype=x.dtype)
    return torch.lerp(x, y, s), torch.lerp(y, x, r)


def half_squared(a, b=0):
    """|a_i - b_i|^2 / 2, (n, 1)."""
    return (a - b).flatten(1).square().sum(1, keepdim=True) / 2
