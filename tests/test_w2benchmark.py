"""The pairs of the Wasserstein-2 benchmark: law, potential, exact map, its files; and what the closed maps score on them."""

import hashlib
import shutil

import numpy as np
import pytest
import torch

from gwf.errors import UsageError
from gwf.flows.measures import l2_uvp
from gwf.seeding import generator
from notebooks.experiments import w2benchmark_maps as maps
from notebooks.experiments import w2benchmark_pairs as pairs
from notebooks.experiments.w2benchmark_pairs import DIMENSIONS, FOLDER, SHA256, Mixture, Pair, cosine

#: L2-UVP and cosine of the linear map and L2-UVP of the identity, computed once from the paper's description by
#: other code than this, one draw of 4096 points; the paper prints 14.1, 41.6 and 63.9 for the linear map at d = 2, 16, 64.
LINEAR = {2: (14.08, 0.757), 16: (41.56, 0.741), 64: (63.97, 0.749), 128: (63.37, 0.771)}
IDENTITY = {2: 32.5, 16: 89.9, 64: 136.2, 128: 144.9}


@pytest.fixture(scope="module", params=DIMENSIONS)
def pair(request):
    return Pair(request.param)


def hessian(pair, x):
    """Jacobian of T* at one point, in float64."""
    weights = [{key: value.double() for key, value in w.items()} for w in pair.networks]
    psi = lambda z: sum(pairs.potential(w, z[None]) for w in weights)[0]
    return torch.autograd.functional.hessian(psi, x.double()) / pair.scale.double()


def test_the_map_is_the_gradient_of_a_convex_function(pair):
    """Hence optimal (Brenier). The Hessian is symmetric to float64's rounding and has no negative eigenvalue, and T* is the
    central difference of psi: with a half width of 1e-3 its error is h^2 / 6 of the third derivative, below 1e-3 here."""
    stream = generator(0, f"tests {pair.d}")
    for x in pair.source(3, stream):
        J = hessian(pair, x)
        assert (J - J.T).abs().max() <= 1e-10 * J.abs().max()
        assert torch.linalg.eigvalsh(J)[0] > 0
        e, width = torch.nn.functional.normalize(torch.randn(pair.d, generator=stream).double(), dim=0), 1e-3
        weights = [{key: value.double() for key, value in w.items()} for w in pair.networks]
        up, down = (
            sum(pairs.potential(w, (x.double() + sign * width * e)[None]) for w in weights)[0] for sign in (1, -1)
        )
        slope = ((up - down) / (2 * width) - pair.mean.double() @ e) / pair.scale
        found = pair.optimal(x[None])[0].double() @ e
        assert abs(slope - found) < 2e-3 * (1 + abs(slope))


def test_the_weights_between_layers_are_not_negative_so_that_the_potential_is_convex(pair):
    for w in pair.networks:
        assert all(w[key].min() >= 0 for key in w if key.startswith(("convex_layers", "final_layer")))


def test_the_laws_are_normalised(pair):
    """Mean 0 and mean variance 1 of the coordinates of nu on other points than those that normalised it; E |x|^2 = d under
    mu_0. Two samples of 2^14: the standard error of the mean coordinate is 1.4 / 128 = .011, that of the mean variance, were the
    coordinates one and the same with kurtosis 6, sqrt(2 * 5 / 2^14) = .025. Three of each are allowed."""
    y = pair.data(2**14, generator(1, f"tests {pair.d}"))
    assert y.mean(0).square().mean().sqrt() < 0.033 and abs(y.var(0).mean() - 1) < 0.075
    x = pair.source(2**14, generator(2, f"tests {pair.d}"))
    assert abs(x.square().sum(1).mean() / pair.d - 1) < 0.075


def test_the_source_is_three_gaussians():
    """In the plane the nearest of the three centres takes a third of the points each (standard error .004), as the scale .4
    is below the half distance of the centres; A has rows of length .4 / m."""
    law = Mixture(2)
    x = law(2**14, generator(0, "tests"))
    nearest = torch.cdist(x, law.centres).argmin(1).bincount(minlength=3) / len(x)
    assert (nearest - 1 / 3).abs().max() < 0.1
    rows = law.A.norm(dim=2)
    assert torch.allclose(rows, rows[0, 0].expand_as(rows))


def test_the_linear_row_and_the_identity_are_the_published_ones(pair):
    """Within three standard errors of the mean of |T - T*|^2 / d over 4096 points, for our draw and for the reference's,
    and the same again for the moments behind the map and the normalisation: 3 * 2 * s / sqrt(4096)."""
    x = pair.source(4096, generator(3, f"tests {pair.d}"))
    u = pair.optimal(x) - x
    for T, known in (
        (maps.linear_map(pair, 2**14, generator(4, f"tests {pair.d}")), LINEAR[pair.d][0]),
        (lambda x: x, IDENTITY[pair.d]),
    ):
        V = T(x) - x
        errors = 100 * (V - u).square().sum(1) / pair.d
        assert abs(l2_uvp(V, u, float(pair.d)) - known) < 6 * float(errors.std()) / 64, known
        if known == LINEAR[pair.d][0]:
            assert abs(cosine(V, u) - LINEAR[pair.d][1]) < 0.02  # spread of five draws: below .005


def test_the_entropic_map_is_far_below_the_linear_one_and_shuffled_data_are_not():
    """At d = 16, 1024 points: 17 % against the linear map's 42. The control pairs the same points with data whose coordinates
    were shuffled one by one, so that mean and variances stay: its map is worse than the linear one."""
    pair = Pair(16)
    x = pair.source(1024, generator(5, "tests"))
    u = pair.optimal(x) - x
    score = lambda T: l2_uvp(T(x) - x, u, 16.0)
    assert score(maps.entropic_map(pair, 1024, generator(6, "tests"), 0.01)) < 25
    whole, draw = pair.data, np.random.default_rng(0)
    pair.data = lambda n, s: torch.tensor(draw.permuted(whole(n, s).numpy(), axis=0))
    assert score(maps.entropic_map(pair, 1024, generator(6, "tests"), 0.01)) > 42


def test_a_small_sinkhorn_step_learns_and_an_untrained_network_has_not():
    """In the plane: below half of the identity's error (33 %) after two seconds; the control is the network before its training."""
    pair, silent = Pair(2), lambda *args, **kwargs: None
    s = {"plan_points": 512, "reg": 0.01, "plan_iterations": 12, "plans": 4, "width": 32, "iterations": 400}
    s |= {"batch": 128, "lr": 0.005}
    x = pair.source(1024, generator(7, "tests"))
    u = pair.optimal(x) - x
    score = lambda T: l2_uvp(T(x).detach() - x, u, 2.0)
    assert score(maps.sinkhorn_step(pair, 0, s, silent)) < 10
    assert score(maps.sinkhorn_step(pair, 0, s | {"iterations": 0}, silent)) > 33


def test_cosine_knows_its_signs():
    u = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    assert cosine(u, u) == pytest.approx(1) and cosine(-2 * u, u) == pytest.approx(-1) and cosine(0 * u, u) == 0


def test_files_are_those_of_their_list():
    listed = dict(line.split()[::-1] for line in (FOLDER / "SHA256SUMS").read_text().splitlines())
    assert listed == SHA256
    assert {name: hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() for name in SHA256} == SHA256
    assert "MIT License" in (FOLDER / "LICENSE").read_text()


def test_a_damaged_or_absent_file_is_one_line(tmp_path):
    shutil.copy(FOLDER / "2_v1.pt", tmp_path)
    damaged = bytearray((FOLDER / "2_v2.pt").read_bytes())
    damaged[1000] ^= 1
    for broken, what in ((None, "is not in"), (bytes(damaged), "damaged")):
        if broken:
            (tmp_path / "2_v2.pt").write_bytes(broken)
        with pytest.raises(UsageError, match=f"2_v2.pt of the W2 benchmark .*{what}|{what}") as error:
            Pair(2, tmp_path)
        assert "\n" not in str(error.value)
    with pytest.raises(UsageError, match="d = 3 .* valid are 2, 16, 64, 128"):
        Pair(3)
