r"""The Crank-Nicolson variant of the variational step, for an internal energy and a potential.

Half of the first variation of the energy is taken at the new law, half is frozen at the old one, *both at the new
position* (vwgf, appendix B):

    min_T max_r  E|T(x) - x|^2/(2 tau) + E V(T x) + dual(r; T# mu_k)/2 + E U'(mu_k)(T x)/2

so it is a `VariationalStep` of half the weight with one more energy, U'(mu_k)/2, which the dual of the step before
gives without a density. For KL(. | N(m, lam)) the exact step is `gwf.exact.covariance.crank_nicolson_step`; like the
JKO step it is of first order in tau, with a smaller constant (chapter `flows`).
"""

from gwf.steps.internal import VariationalFlow, VariationalStep


class FrozenHalf:
    """The energy y -> E U'(mu_k)(y) / 2 of particles y (n, d), mu_k being frozen.

    Parameters
    ----------
    first : callable
        y (n, d) -> scalar E U'(mu_0)(y), from the known density of the source; 1 + E log mu_0(y) for `Boltzmann`.
    """

    def __init__(self, first):
        self.first_variation = first

    def renew(self, dual):
        """mu_k is from now on the law that `dual` has been trained against."""
        self.first_variation = dual.frozen().of_mu

    def __call__(self, y):
        return self.first_variation(y) / 2


class CrankNicolsonFlow(VariationalFlow):
    """A sequence of Crank-Nicolson steps: as `VariationalFlow`, with the frozen half renewed after every step.

    Parameters
    ----------
    dual, T, tau
        As in `gwf.steps.internal.VariationalStep`.
    first : callable
        As in `FrozenHalf`.
    potential : callable
        y (n, d) -> scalar E V(y). V acts linearly on laws, so its two halves are one whole.
    settings
        The remaining arguments of `VariationalFlow`.
    """

    def __init__(self, dual, T, tau, first, potential, x, stream, **settings):
        self.frozen = FrozenHalf(first)
        step = VariationalStep(dual, T, tau, weight=0.5, energies=(potential, self.frozen))
        super().__init__(step, x, stream, **settings)

    def advance(self):
        """One step; then the frozen half is that of the law just reached."""
        super().advance()
        self.frozen.renew(self.step.dual)
