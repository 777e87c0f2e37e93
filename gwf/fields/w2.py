"""Half the squared W2 distance by its dual, with two learned potentials."""

import torch

from gwf.fields.base import Explicit


class Wasserstein2(Explicit):
    r"""F(mu) = W_2^2(mu, nu) / 2 = sup { E_nu p(y) + E_mu h(x) : p(y) + h(x) <= |x - y|^2 / 2 }.

    Where mu has a density the optimal map is x - grad h(x), so V = -grad h is the displacement to it. The two
    potentials are networks, p on the data's side and h = -p + e on the generated side, with e a correction: h = -p
    would be the W1 dual. The constraint is a penalty, as is its equality along the maps that the potentials imply;
    with t_+ the positive part and c the cost,

        L = -E[p(y) + h(x)] + weight { E (p(y) + h(x) - c)_+^2         on pairs (y, x), and again on pairs between them,
                                       + E (p(y) + h(T_y) - c(y, T_y))^2,      T_y = y - grad p(y),
                                       + E (p(T_x) + h(x) - c(T_x, x))^2,      T_x = x - grad h(x) }.

    Source: w2fe (W2-GAN's critic, after J. Leygonie et al. 2019), from its description.
    """

    title = "W2"

    def critic_loss(self, p, e, x, y, weight, generator=None):
        """L for potentials p, e: (n, ...) -> (n, 1), generated x and data y, both (n, ...) without graph; a scalar.

        `weight` >= 0; `generator` draws the pairs in between. Each network is called twice: on what is given, then on
        the images T_y, T_x, which have to wait for the gradients.
        """
        n = len(x)
        between = torch.cat(pairs_between(x, y, generator))
        given = torch.cat([y, x]).requires_grad_(True)
        p_all, e_x, e_between = p(torch.cat([given, between])), e(given[n:]), e(between[n:])
        p_y, p_x, p_a, p_b = p_all.split(n)
        h_x = e_x - p_x
        (slope,) = torch.autograd.grad(p_y.sum() + h_x.sum(), given, create_graph=True)
        images = given - slope
        p_images, h_T = p(images), e(images[:n])
        h_T = h_T - p_images[:n]
        excess = (
            torch.cat([p_y + h_x, p_a + e_between - p_b])
            - torch.cat([half_squared(x, y), half_squared(between[:n], between[n:])])
        ).clamp_min(0)
        equal = torch.cat([p_y + h_T, p_images[n:] + h_x]) - half_squared(slope)
        return -(p_y + h_x).mean() + 2 * weight * (excess.square().mean() + equal.square().mean())


def pairs_between(x, y, generator=None):
    """(y', x'), both (n, ...): random points between x and y, each on its own, data side first."""
    s, r = torch.rand(2, len(x), *[1] * (x.dim() - 1), generator=generator, device=x.device, dtype=x.dtype)
    return torch.lerp(x, y, s), torch.lerp(y, x, r)


def half_squared(a, b=0):
    """|a_i - b_i|^2 / 2, (n, 1)."""
    return (a - b).flatten(1).square().sum(1, keepdim=True) / 2


functional = Wasserstein2()
