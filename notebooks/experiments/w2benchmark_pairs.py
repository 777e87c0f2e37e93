r"""The pairs of the Wasserstein-2 benchmark: a source law mu_0, the exact Monge map T*, and nu = T*# mu_0.

mu_0 is a mixture of three Gaussians. The map comes from two convex networks whose weights lie in the folder
`w2benchmark` beside this file:

    T*(x) = (grad psi(x) - b) / s,      psi = psi_1 + psi_2,

b the mean of grad psi under mu_0 and s^2 the mean variance of its coordinates, both of `NORMALISED` samples. T* is the
gradient of a convex function, hence optimal (Brenier). Written from the paper's description; no code of the benchmark.
Source: A. Korotin, L. Li, A. Genevay, J. Solomon, A. Filippov, E. Burnaev. Do neural optimal transport solvers work? A
continuous Wasserstein-2 benchmark. NeurIPS 2021, arXiv 2106.01954.
"""

import hashlib
import math

import numpy as np
import torch
from torch.nn.functional import celu

from gwf.errors import UsageError, nearest
from gwf.paths import NOTEBOOKS
from gwf.seeding import generator

FOLDER = NOTEBOOKS / "experiments" / "w2benchmark"
NORMALISED = 2**14
STD = 0.4
"""Scale of every component of mu_0, before the whole is normalised."""

SHA256 = {
    "2_v1.pt": "12fbf72953af1371002cb4a0b67757bd63b335e923fc5f7d4076fbeb81ee72b5",
    "2_v2.pt": "28d161bf7b352d678fb77f512b51266574da06455d3eabf9173695813efc1716",
    "16_v1.pt": "d50a23710ca3b71a01007cd53c6b578de087c9879e0506866bac9196357e1891",
    "16_v2.pt": "722088932a1a0dbbf9cc1e90a6b9d86df0536f4520caf205b33161c74c0dd574",
    "64_v1.pt": "ea8778313115151315cdc4a60198fea41e18800295559391c97e9a49b5b8f56c",
    "64_v2.pt": "2bbc6d8e5c7f29a6e188e23ea10b811e1b07b1bd0f355cc8916356eed2e7428b",
    "128_v1.pt": "69146834f2b33b6f05accbc7d4d49ef43e9517f38d5a7ab71c50a936c0c613ab",
    "128_v2.pt": "d03ed8ab9b8bab886ecc7d69e1dba1173b154f4eae9378a295a7cbbc93d52321",
}
"""File -> digest, those of `SHA256SUMS` in the folder: what a run computes with depends on them."""
DIMENSIONS = sorted({int(name.partition("_")[0]) for name in SHA256})


def weights(name, folder=FOLDER):
    """The tensors in the file `name` of `folder`, a dict; `UsageError` in one line if it is absent or not the published one."""
    path = folder / nearest(name, SHA256, "file of the W2 benchmark")
    if not path.is_file():
        raise UsageError(f"{name} of the W2 benchmark is not in {folder.name}/: git checkout brings it")
    if (found := hashlib.sha256(path.read_bytes()).hexdigest()) != SHA256[name]:
        raise UsageError(
            f"{name} of the W2 benchmark is damaged: SHA-256 {found[:12]}..., expected {SHA256[name][:12]}..."
        )
    return torch.load(path, map_location="cpu", weights_only=True)


def potential(w, x):
    r"""psi_v(x) of the weights w for x (n, d); (n,).

        u_1 = q_1(x),   u_2 = celu(C_1 u_1 + q_2(x)),   u_3 = celu(C_2 u_2 + q_3(x)),   psi_v = w_3 . u_3 + .005 |x|^2,
        q_i(x)_j = (a_ij . x)^2 + W_ij . x + b_ij,

    convex, as every q is, C and w_3 are not negative, and celu is convex and increasing.
    """

    def q(i):
        layer = f"quadratic_layers.{i}."
        squares = torch.einsum("nd,drj->nrj", x, w[layer + "quadratic_decomposed"]).square().sum(1)
        return squares + x @ w[layer + "weight"].T + w[layer + "bias"]

    u = q(0)
    for i in (1, 2):
        u = celu(u @ w[f"convex_layers.{i - 1}.weight"].T + q(i))
    return u @ w["final_layer.weight"][0] + 0.005 * x.square().sum(1)


class Mixture:
    """mu_0 in dimension d: x = (.4 A_k z + c_k) / m with k uniform on three components, z ~ N(0, I), and m the scale of all.

    Centres c_k and matrices A_k are the benchmark's own draws, from numpy's generator of seed 0.
    """

    def __init__(self, d):
        draw = np.random.RandomState(0)
        centres = np.stack([draw.choice([0, 1, 2], 3, replace=False) for _ in range(d)], 1) - 1.0
        A = draw.normal(size=(3, d, d)).astype(np.float32)
        A /= np.linalg.norm(A, axis=2, keepdims=True)
        m = math.sqrt(np.square(centres).sum(1).mean() + STD**2 * d) / math.sqrt(d)
        self.centres = torch.tensor(centres / m, dtype=torch.float32)
        self.A = torch.tensor(STD * A / m, dtype=torch.float32)

    def __call__(self, n, stream):
        """n points of mu_0, (n, d)."""
        z, k = torch.randn(n, self.A.shape[1], generator=stream), torch.randint(3, (n,), generator=stream)
        x = torch.empty_like(z)
        for j in range(3):
            x[k == j] = z[k == j] @ self.A[j].T + self.centres[j]
        return x


class Pair:
    """mu_0 (`source`), nu (`data`) and T* (`optimal`) in dimension d; `UsageError` for a d without files."""

    def __init__(self, d, folder=FOLDER):
        if d not in DIMENSIONS:
            raise UsageError(f"d = {d} of the W2 benchmark: valid are {', '.join(map(str, DIMENSIONS))}")
        self.d, self.source = d, Mixture(d)
        self.networks = [weights(f"{d}_v{v}.pt", folder) for v in (1, 2)]
        slope = self.slope(self.source(NORMALISED, generator(0, f"w2benchmark normalisation {d}")))
        self.mean, self.scale = slope.mean(0), slope.var(0).mean().sqrt()

    def psi(self, x):
        """The convex potential psi(x) = psi_1(x) + psi_2(x), (n,)."""
        return sum(potential(w, x) for w in self.networks)

    def slope(self, x):
        """grad psi at x (n, d), without graph."""
        x = x.detach().requires_grad_(True)
        return torch.autograd.grad(self.psi(x).sum(), x)[0]

    def optimal(self, x):
        """T*(x), (n, d) -> (n, d)."""
        return (self.slope(x) - self.mean) / self.scale

    def data(self, n, stream):
        """n points of nu, independent of any others."""
        return self.optimal(self.source(n, stream))


def cosine(V, u):
    """E<V, u> / (E|V|^2 E|u|^2)^(1/2) of displacements V, u (n, d); 0 where one of them vanishes."""
    V, u = V.double(), u.double()
    return float((V * u).sum() / (V.square().sum() * u.square().sum()).sqrt().clamp_min(1e-300))
