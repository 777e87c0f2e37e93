"""Half the squared W2 distance by its dual, with two learned potentials."""

import torch

from gwf.errors import nearest
from gwf.fields import relu_dual
from gwf.fields.learned import Learned


class DualField(Learned):
    r"""-grad h of F(mu) = W_2^2(mu, nu) / 2 = sup { E_nu p(y) + E_mu h(x) : p(y) + h(x) <= |x - y|^2 / 2 }.

    Where mu has a density the optimal map is x - grad h(x), so V = -grad h is the displacement to it. The two
    potentials are networks, p on the data's side and h = -p + e on the generated side, with e a correction: h = -p
    would be the W1 dual. `critic_loss` is the dual with its constraint as a penalty. Source: w2fe (W2-GAN's critic,
    after J. Leygonie et al. 2019), from its description.

    Parameters
    ----------
    p, e : torch.nn.Module
        Potential on the data's side, and correction; x (n, ...) -> (n, 1).
    weight : float
        Of the penalties: w2fe's settings are 200 in the plane and 10 for images.
    lr, betas, critic_steps : float, pair of float, int
        Of Adam; its steps per time step.
    target : {"theory", "released"}
        "theory": V = -grad h. "released": V = grad p, which the released code follows; it differs by grad e, so its
        persistency 1 is not W2-GAN to the letter.
    positive : float
        Weight of a further penalty E (h(x))_+^2: 10 in w2fe's image experiments.
    """

    title, name = "W2", "w2"
    potentials = ("p", "e")

    def __init__(self, p, e, weight=200.0, lr=5e-4, critic_steps=5, betas=(0.9, 0.999), target="theory", positive=0.0):
        super().__init__({"p": p, "e": e}, lr, critic_steps, betas)
        self.p, self.e, self.weight, self.positive = p, e, weight, positive
        # A loss of another form, a subclass's, is left to autograd.
        self.by_hand = (
            type(self).loss is DualField.loss and relu_dual.is_relu_network(p) and relu_dual.is_relu_network(e)
        )
        self.released = nearest(target, ("theory", "released"), "target") == "released"

    def loss(self, x, y, generator):
        loss = critic_loss(self.p, self.e, x, y, self.weight, generator)
        if self.positive:
            loss = loss + self.positive * (self.e(x) - self.p(x)).clamp_min(0).square().mean()
        return loss

    def backward(self, x, y, generator):
        """By hand where both potentials are ReLU networks: the same numbers, sooner."""
        if self.by_hand:
            return relu_dual.backward(self.p, self.e, x, y, self.weight, generator, self.positive)
        return super().backward(x, y, generator)

    def potential(self, x):
        """h = -p + e, or -p alone for the released target."""
        return -self.p(x) if self.released else self.e(x) - self.p(x)

    def velocity(self, x, y=None, other=None, generator=None):
        if not self.by_hand:
            return super().velocity(x)
        V = relu_dual.slope(self.p, x)
        return V if self.released else V - relu_dual.slope(self.e, x)


def critic_loss(p, e, x, y, weight, generator=None):
    r"""The dual of W_2^2 / 2 with its constraint as a penalty, as its equality along the maps that p and h = -p + e imply:

        L = -E[p(y) + h(x)] + weight { E (p(y) + h(x) - c)_+^2         on pairs (y, x), and again on pairs between them,
                                       + E (p(y) + h(T_y) - c(y, T_y))^2,      T_y = y - grad p(y),
                                       + E (p(T_x) + h(x) - c(T_x, x))^2,      T_x = x - grad h(x) },

    with t_+ the positive part, c the cost |x - y|^2 / 2 and weight >= 0. x, y (n, ...) are generated points and data,
    without graph; `generator` draws the pairs in between. p and e, (n, ...) -> (n, 1), are called twice each: on what
    is given, then on the images T_y, T_x, which have to wait for the gradients.
    """
    n = len(x)
    between = torch.cat(relu_dual.pairs_between(x, y, generator))
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
        - torch.cat([relu_dual.half_squared(x, y), relu_dual.half_squared(between[:n], between[n:])])
    ).clamp_min(0)
    equal = torch.cat([p_y + h_T, p_images[n:] + h_x]) - relu_dual.half_squared(slope)
    return -(p_y + h_x).mean() + 2 * weight * (excess.square().mean() + equal.square().mean())
