r"""What a functional of the explicit family is: a velocity field, the steepest descent of F in Wasserstein space.

    V = -grad of the first variation of F at mu,          x <- x + eps V(x)

moves the law of x downhill. Where V is a plan, a sort or a kernel sum over two batches it needs no network
(`Explicit.velocity`); where it is the gradient of a potential, the potential is learned (`gwf.fields.learned`).
"""


class Explicit:
    """F(mu) = D(mu, nu) with a velocity field in closed form on samples. Knows nothing about networks or data.

    Attributes
    ----------
    title : str
        Name for people.
    needs_other : bool
        True where `velocity` uses a second generated batch, independent of the first.
    """

    title = ""
    needs_other = False

    def velocity(self, x, y, other=None, generator=None):
        """V at generated x (n, ...), for data y (m, ...); shaped as x is, without graph.

        Parameters
        ----------
        other : Tensor (k, ...)
            A second generated batch, where `needs_other`.
        generator : torch.Generator
            Stream of random directions, where there are any.
        """
        raise NotImplementedError

    def __repr__(self):
        return f"<{type(self).__name__}: {self.title}>"
