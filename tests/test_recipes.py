"""Recipes beyond the critics' and the explicit ones: each where the answer is known, then all of them in common."""

import io
import math

import pytest
import torch
from pretended_device import DEVICE, pretended
from safetensors.torch import load_file
from scipy.spatial.distance import cdist
from sklearn.gaussian_process.kernels import RBF, Matern
from sklearn.metrics.pairwise import laplacian_kernel
from small_trainers import KINDS, REFERENCES, SHORT, trainer, weights

from gwf import fields
from gwf.fields import kernels
from gwf.fields.drifting import Drifting, DriftingReleased
from gwf.nets.transport import ConvTransport
from gwf.seeding import generator
from gwf.steps import semidual
from gwf.training import loop, recipes, tasks
from gwf.training.matching import Flow
from gwf.training.references import Affine, Memory
from gwf.training.source import Shaped

#: Every new field through the explicit step, every learned kernel, every relaxation.
ALL = [name for name in recipes.names() if name.rsplit("-", 1)[1] not in ("gan", "jko", "whole", "increments")]


def normal(n, q, name, shift=0.0):
    return torch.randn(n, q, generator=generator(0, name)) + shift


# Kernels.


def gaussian(r, city):
    return torch.exp(r.square() / -2)


def test_the_estimator_of_mmd_is_unbiased():
    """Batches of 8 of N(m, 1) and N(0, 1) with the kernel exp(-r^2 / 2): MMD^2 = 2 (1 - exp(-m^2 / 6)) / sqrt 3. 2000 batches
    give a standard error near .004; with the pairs of a point with itself it would be off by 2 (1 - 1 / sqrt 3) / 8 = .106."""
    for m in (0.0, 1.0):
        exact = 2 / math.sqrt(3) * (1 - math.exp(-(m**2) / 6))
        x, y = normal(2000, 8, "x", m), normal(2000, 8, "y")
        found = torch.stack([kernels.mmd2(u[:, None], w[:, None], gaussian) for u, w in zip(x, y, strict=True)])
        error = float(found.std()) / math.sqrt(len(found))
        assert abs(float(found.mean()) - exact) < 4 * error and error < 0.008
        whole = lambda u, w: torch.exp((u[:, :, None] - w[:, None]).square() / -2).mean()
        biased = whole(x, x) + whole(y, y) - 2 * whole(x, y)
        assert float(biased) - exact > 0.09


def test_the_mixture_is_a_kernel():
    """With |a| + |b| it is (10 + 2 |a|) / 7 at b = a and positive semi-definite, to the rounding of float32; those two terms
    drop out of an MMD, whose estimate is the same without them."""
    a, b = normal(24, 3, "a") * 5, normal(20, 3, "b")  # from 25 points on torch has distances from products, less exact
    whole = lambda a, b: (
        kernels.profile(torch.cdist(a, b), torch.cdist(a, b, 1)) + (a.norm(dim=1)[:, None] + b.norm(dim=1)) / 7
    )
    K = whole(a, a)
    assert torch.allclose(K.diagonal(), (10 + 2 * a.norm(dim=1)) / 7, atol=1e-4)
    assert float(torch.linalg.eigvalsh(K.double()).min()) > -1e-4
    assert float(kernels.paired(a, a.flip(0))) == pytest.approx(float(whole(a, a.flip(0)).diagonal().mean()), rel=1e-5)
    among = lambda K: (K.sum() - K.diagonal().sum()) / (len(K) * (len(K) - 1))
    mmd2 = among(K) + among(whole(b, b)) - 2 * whole(a, b).mean()
    assert float(kernels.mmd2(a, b)) == pytest.approx(float(mmd2), abs=1e-4)


@pytest.mark.parametrize("name", ["mmd_learned", "mmd_scaled", "mmd_repulsive"])
def test_a_learned_kernel_points_to_the_data_and_its_features_tell_the_laws_apart(name):
    V = fields.get(name, lambda: torch.nn.Linear(2, 4), lr=0.02, weight=0.0)
    x, y, stream = normal(64, 2, "x"), normal(64, 2, "y", 2.0), generator(0, "signs")
    with torch.no_grad():
        V.features.weight.copy_(torch.eye(4, 2))
    assert float(V(x, y, None, stream).mean(0).min()) > 0
    losses = [float(V.improve(x, y, stream)) for _ in range(30)]
    assert losses[-1] < losses[0]


def test_the_mean_velocity_of_a_learned_kernel_vanishes_at_the_data():
    """At mu = nu, over 400 batches of 16, with features that are fixed: within 4 standard errors in both coordinates."""
    torch.manual_seed(0)
    V = fields.get("mmd_learned", lambda: torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.Tanh()))
    x, y = normal(400 * 16, 2, "x").split(16), normal(400 * 16, 2, "y").split(16)
    pull = torch.stack([(V(a, b) * a).mean(0) for a, b in zip(x, y, strict=True)])
    assert (pull.mean(0).abs() < 4 * pull.std(0) / math.sqrt(len(pull))).all()


def test_descent_of_a_learned_kernel_is_that_of_its_mmd():
    """The map's gradient is that of MMD^2 / 2 between its features on the batch, to rounding."""
    t = trainer("mmd_learned", "descent")
    y, z = t.draw_data(), t.draw_latent()
    x = t.push(z)
    (ours,) = torch.autograd.grad(((x - (x + t.field(x, y)).detach()).square().sum() / (2 * len(x))), t.T[0].weight)
    features = t.field.features
    half = kernels.mmd2(features(t.push(z)), features(y)) / 2
    (theirs,) = torch.autograd.grad(half, t.T[0].weight)
    assert torch.allclose(ours, theirs, atol=1e-6 * float(theirs.abs().max()) + 1e-8) and float(theirs.abs().max()) > 0


def test_the_scale_of_a_linear_critic():
    """s = 1 / (1 + 10 |A|_F^2): exact for one feature, and for several in the mean over signs (the columns of A are not
    orthogonal): 2000 vectors leave 1 per cent."""
    y = normal(2000, 3, "y")
    for q in (1, 4):
        layer = torch.nn.Linear(3, q)
        s = fields.get("mmd_scaled", lambda layer=layer: layer).scale(y, generator(0, "signs"))[1]
        exact = 1 / (1 + 10 * float(layer.weight.detach().square().sum()))
        assert float(s.detach()) == pytest.approx(exact, rel=1e-5 if q == 1 else 0.05)


def test_the_terms_of_the_mixture_are_scikit_learns():
    """Squared exponentials of lengths 10, 1, 2, 4, 8, 16, Laplace in the norm |.|_1, the exponential, Matern 3/2 and 5/2, all of
    length 10 or 100, and -r: float64, to rounding. Features from near to far beyond every length."""
    for size in (0.3, 5.0, 80.0):
        a, b = ((size * normal(n, 3, name)).double() for n, name in ((7, "a"), (5, "b")))
        ours = kernels.profile(torch.cdist(a, b), torch.cdist(a, b, 1))
        a, b = a.numpy(), b.numpy()
        terms = [RBF(s)(a, b) for s in (10, 1, 2, 4, 8, 16)] + [Matern(10, nu=nu)(a, b) for nu in (0.5, 1.5, 2.5)]
        terms += [laplacian_kernel(a, b, gamma=1 / 100), -cdist(a, b)]
        assert ours.numpy() == pytest.approx(sum(terms) / 7, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("name", ["mmd_learned", "mmd_scaled", "mmd_repulsive"])
def test_losses_of_learned_kernels_by_sums_over_pairs(name):
    """Linear features of three coordinates: every mean pair by pair, and what is known of the gradients in closed form."""
    layer, x, y = torch.nn.Linear(3, 2).double(), normal(5, 3, "x").double(), normal(5, 3, "y", 1.0).double()
    V = fields.get(name, lambda: layer, weight=0.3)
    u, w = (layer(t).detach() for t in (x, y))
    k = lambda a, b: float(kernels.profile((a - b).norm(), (a - b).norm(p=1))) + float(a.norm() + b.norm()) / 7
    among = lambda u: sum(k(a, b) for i, a in enumerate(u) for j, b in enumerate(u) if i != j) / (len(u) * (len(u) - 1))
    mmd2 = among(u) + among(w) - 2 * sum(k(a, b) for a in u for b in w) / 25
    price = 0.3 * float(layer.weight.detach().sum(0).square().sum())  # of the sum of the features
    loss = float(V.loss(x, y, generator(0, "signs")).detach())
    if name == "mmd_scaled":
        signs = 2 * torch.randint(2, (5, 2), generator=generator(0, "signs")).double() - 1
        s = 1 / (1 + 10 * float((signs @ layer.weight.detach()).square().sum(1).mean()))
        assert loss == pytest.approx(-s * mmd2, rel=1e-9)
        plain = fields.get("mmd_learned", lambda: layer)
        assert torch.allclose(V(x, y, None, generator(0, "signs")), s * plain(x, y), rtol=1e-9)
    else:
        gained = mmd2 if name == "mmd_learned" else among(u) - among(w)
        assert loss == pytest.approx(price - gained, rel=1e-9)


def test_ckgans_losses():
    """A critic's loss is 0 in the mean where z and T(z) are independent and mu = nu; the map's pulls v(T(z)) to its z."""
    t = trainer("mmd", "ck_gan", batch=4096)
    z, y = t.draw_latent(), t.draw_data()
    t.losses.weight = 0.0
    free = float(t.losses.critic_loss((t.draw_data(), z), y).detach())
    t.losses.v = lambda x: x
    assert abs(free) < 0.01 and float(t.losses.map_loss((z, z), z, y)[0]) == pytest.approx(
        -float((10 + 2 * z.norm(dim=1)).mean()) / 7, rel=1e-5
    )
    assert float(t.losses.critic_loss((z, z), y)) > 0.1, "and it sees dependence"


# Velocities in closed form.


def test_drifting_is_the_score_difference_of_smoothed_laws():
    """N(1, 1) against N(0, 1) with a kernel of variance r: V = -r / (1 + r) everywhere. Equal-weight quantiles stand for the
    laws; their missing tails cost 1e-3 within one deviation."""
    u = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    y = torch.special.ndtri(u)[:, None]
    x = torch.linspace(-1, 1, 5, dtype=torch.float64)[:, None]
    for reg in (0.1, 1.0):
        V = Drifting(reg, relative=False)(x, y, y + 1)
        assert torch.allclose(V, torch.full_like(V, -reg / (1 + reg)), atol=1e-3)


@pytest.mark.parametrize("n", [8, 32, 128])
def test_drifting_as_released_has_unit_forces(n):
    """Root mean square 1 over all coordinates at one temperature, whatever the laws. At three it is at most 3, so in the plane
    |V| has at most 3 sqrt 2, and above 3 at mu = nu, where they agree in the main. Against a shift it points there; a common
    shift of both batches changes nothing but rounding."""
    x, y = normal(n, 2, "x"), normal(n, 2, "y")
    V, one = DriftingReleased(), DriftingReleased()
    one.temperatures = (0.2,)
    assert float(one(x, y).square().mean()) == pytest.approx(1, rel=1e-5)
    assert 3 < float(V(x, y).square().sum(1).mean().sqrt()) < 3 * math.sqrt(2)
    assert float((V(x, y + 3)).mean(0).min()) > 0.5
    assert torch.allclose(V(x, y), V(x + 5, y + 5), atol=2e-3)


# References.


def test_references_have_the_moments_of_the_data_and_the_data():
    y = normal(500, 3, "y") @ torch.tensor([[1.0, 0.5, 0.0], [0.0, 2.0, 1.0], [0.0, 0.0, 0.1]]) + 1
    T = Affine(y)
    assert torch.allclose(T.root @ T.root.T, torch.cov(y.T), atol=1e-5) and torch.allclose(
        T(torch.zeros(1, 3)), y.mean(0)
    )
    share = (torch.arange(500) + 0.5) / 500
    x = torch.stack([torch.special.ndtri(share), torch.zeros(500)], 1)
    assert torch.equal(Memory(y)(x), y), "each from its own share of the source"


def test_the_flow_of_the_exact_field_carries_the_source_to_the_data():
    """N(0, 1) to N(m, s^2) in independent pairs: E[V | x_t] = m + (t s^2 - (1 - t)) / ((1 - t)^2 + t^2 s^2) (x_t - t m). Euler's
    method with 200 steps has an error of a few 1/200."""
    m, s = 2.0, 0.5
    flow = Flow((1,), 200)
    del flow.v
    flow.v = lambda x, t: m + (t * s**2 - (1 - t)) / ((1 - t) ** 2 + t**2 * s**2) * (x - t * m)
    flow.v.d = 1
    x = torch.tensor([[-1.0], [0.0], [1.0]])
    assert torch.allclose(flow(x), m + s * x, atol=0.02)


def test_flow_matching_regresses_on_that_field():
    """The trainer's loss, for a field that is a constant c: E|V - c|^2 = E|y - x|^2 at c = 0, d + E|y|^2 for N(0, I_d)."""
    t = trainer("independent", "matching", batch=4096)
    t.v = lambda rows: 0 * t.T.v(rows)
    _, loss, _ = t.update()
    expected = 2 + float(t.task.data(4096, generator(1, "y")).square().sum(1).mean())
    assert float(loss) == pytest.approx(expected, rel=0.05)


# Steps.


def test_persistency_1_is_the_gan_of_the_field():
    """w2-descent (W2-GAN) and W2-FE at persistency 1 have the same map after five updates of 1e-3: a loss of twice the size is
    nothing under Adam, up to its 1e-8 beside the smallest gradients."""
    gan, fe = trainer("w2", "descent"), trainer("w2", "euler", persistency=1)
    for _ in range(5):
        gan.update(), fe.update()
    assert float((weights(gan.T) - weights(fe.T)).abs().quantile(0.9)) < 1e-5


def test_the_implicit_step_is_descent_with_a_proximal_term():
    free, held, infinite = (
        trainer("mmd", "descent"),
        trainer("mmd", "implicit", tau=1e-3),
        trainer("mmd", "implicit", tau=math.inf),
    )
    start = weights(held.T)
    for _ in range(20):
        for t in (free, held, infinite):
            losses = t.update()
    assert torch.equal(weights(free.T), weights(infinite.T)), "tau = infinity, to the bit"
    moved = lambda t: float((weights(t.T) - start).norm())
    assert moved(held) < 0.5 * moved(free) and float(losses[2]) == 0


def test_the_first_anchor_of_sjko_is_the_source_itself():
    t = trainer("kl", "sjko", phase=2, per_dimension=False)
    rows = t.draw_latent()
    y, cost, share = t.push(rows)
    assert (
        torch.allclose(cost[:, 0], (t.T(rows) - rows[:, :2]).square().sum(1) / (2 * t.settings.tau))
        and (share == 1).all()
    )
    for _ in range(2):
        t.update()
    assert t.prox.T_k is not semidual.first and float(t.push(rows)[1].sum().detach()) == 0, "then the last map, matched"


def test_sjkos_settings():
    """Noise of 1/(k + 1) in phase k; an anchor with a latent of its own is dearer; K = 1 is one long phase, to the bit."""
    noisy, still = trainer("kl", "sjko", noise=0.5, batch=20000, phase=1), trainer("kl", "sjko", batch=20000)
    for k in range(3):
        noisy.step = k
        added = noisy.draw_data()
        assert float(added.var(0).mean()) - float(still.draw_data().var(0).mean()) == pytest.approx(
            (0.5 / (k + 1)) ** 2, abs=0.02
        )
    own, same = trainer("kl", "sjko", independent=True, phase=1), trainer("kl", "sjko", phase=1)
    for t in (own, same):
        t.update()
    rows = same.task.latent(16, generator(1, "rows"))
    assert own.push(rows)[1].detach().mean() > 0 and same.push(rows)[1].detach().mean() == 0
    one, long = trainer("kl", "uotm_fixed"), trainer("kl", "sjko", phase=1000)
    for _ in range(4):
        one.update(), long.update()
    assert torch.equal(weights(one.T), weights(long.T)) and one.phase() == 1


def test_relaxations_charge_what_they_say():
    """The potential's losses on one batch: E v + E Psi*(-v), E Psi*(v - c) + ..., its mean over all pairs, E v - E v."""
    found = {}
    for functional, step in (("kl", "uotm_fixed"), ("kl", "uotm"), ("kl", "uotm_released"), ("w2", "uotm_fixed")):
        t = trainer(functional, step, penalty=0.0)
        y, rows = t.draw_data(), t.draw_latent()
        x = t.push(rows)
        v, c, v_y = t.critic(x[0][:, 0]), x[1][:, 0], t.critic(y)
        found[functional, step] = float(t.losses.critic_loss(x, y).detach())
        data = float(torch.expm1(-v_y).mean())
        expected = {
            ("kl", "uotm_fixed"): float(v.mean()) + data,
            ("kl", "uotm"): float(torch.expm1(v - c).mean()) + data,
            ("kl", "uotm_released"): float(torch.expm1(v[:, None] - c).mean()) + data,
            ("w2", "uotm_fixed"): float(v.mean() - v_y.mean()),
        }[functional, step]
        assert found[functional, step] == pytest.approx(expected, abs=1e-5)
        of_functional, cost = t.losses.map_loss(x, rows, y)
        assert float((of_functional + cost).detach()) == pytest.approx(float((c - v).mean().detach()), abs=1e-5)
    assert len(set(found.values())) == 4


def test_one_increment_is_the_whole_map_and_later_ones_leave_it_alone():
    whole, increments = (trainer("js", step, phase=3, updates=3) for step in ("whole", "increments"))
    for _ in range(3):
        whole.update(), increments.update()
    assert torch.equal(weights(whole.T), weights(increments.T[0])), "K = 1, to the bit"
    t = trainer("js", "increments", phase=3, updates=9)
    for _ in range(3):
        t.update()
    done, waiting = weights(t.T[0]), weights(t.T[2])
    for _ in range(3):
        losses = t.update()
    assert torch.equal(done, weights(t.T[0])) and torch.equal(waiting, weights(t.T[2])) and float(losses[2]) > 0
    x = t.task.latent(5, generator(0, "x"))
    assert torch.equal(t.T(x), t.T[1](t.T[0](x[:, :2]))), "those that wait are the identity"


def test_images_go_through_every_kind_of_map():
    """One update on digits of a semi-dual step, an increment and flow matching; samples are uint8 images."""
    for functional, step in (("kl", "sjko"), ("js", "increments"), ("independent", "matching"), ("mmd", "ck_jko")):
        t = trainer(functional, step, "digits", batch=4, updates=2, phase=1)
        assert all(torch.isfinite(loss) for loss in t.update())
        samples = t.task.sample(t.average.net, 3)
        assert samples.shape == (3, 28, 28) and samples.dtype.name == "uint8"
    assert isinstance(t.task, tasks.get("digits")) and Shaped(t.task).shape == (1, 28, 28)


# All of them.


@pytest.mark.parametrize("method", ALL)
def test_losses_are_finite_and_an_update_moves_the_map(method):
    t = trainer(*method.rsplit("-", 1), phase=2, updates=4)
    before = weights(t.T)
    losses = [loss for _ in range(3) for loss in t.update()]
    assert all(torch.isfinite(loss) and loss.dtype == torch.float32 for loss in losses)
    assert torch.equal(before, weights(t.T)) == (method in ("w2-gaussian", "w2-real")) and t.finite()


@pytest.mark.parametrize("step", KINDS)
def test_a_resumed_run_has_the_same_bytes(step):
    """A state after three updates, in the second phase, read back as a checkpoint is."""
    whole, again = (trainer(KINDS[step], step, phase=2, updates=6, amp=step in ("sjko", "implicit")) for _ in range(2))
    for _ in range(3):
        whole.update()
    stored = io.BytesIO()
    torch.save(whole.state_dict(), stored)
    stored.seek(0)
    again.load_state_dict(torch.load(stored, weights_only=True))
    for _ in range(3):
        losses = zip(whole.update(), again.update(), strict=True)
        assert all(torch.equal(a, b) for a, b in losses)
    assert torch.equal(weights(whole.T), weights(again.T)) and torch.equal(
        weights(whole.average.net), weights(again.average.net)
    )


def brief(method, dataset, **changes):
    """Two updates with a change of phase between them, on batches as small as a batch norm and pairs of points allow."""
    batch = {"eight_gaussians": 8, "digits": 4}[dataset]
    return trainer(*method.rsplit("-", 1), dataset, batch=batch, phase=1, persistency=1, updates=2, **changes)


def is_mixed(net):
    """A list to which every call of a layer of `net`, or of a copy, adds whether it was under autocast."""
    seen = []
    for layer in net.modules():
        layer.register_forward_pre_hook(lambda *_: seen.append(torch.is_autocast_enabled("cpu")))
    return seen


@pytest.mark.parametrize("dataset", ["eight_gaussians", "digits"])
@pytest.mark.parametrize("method", recipes.names())
def test_mixed_precision_keeps_weights_losses_and_samples_in_full(method, dataset):
    """What metrics are computed from, samples of the averaged map, is never under autocast; the map's training is."""
    t = brief(method, dataset, amp=True)
    training, sampling = is_mixed(t.T), is_mixed(t.average.net)
    losses = [loss for _ in range(2) for loss in t.update()]
    samples = t.task.sample(t.average.net, 2)
    assert any(training) == (method.rsplit("-", 1)[1] not in REFERENCES) and sampling and not any(sampling)
    assert all(torch.isfinite(loss) and loss.dtype == torch.float32 for loss in losses) and t.finite()
    assert all(w.dtype == torch.float32 for net in (t.T, t.critic, t.average.net) for w in net.parameters())
    assert samples.dtype.name == {"eight_gaussians": "float32", "digits": "uint8"}[dataset]


@pytest.mark.parametrize("dataset", ["eight_gaussians", "digits"])
@pytest.mark.parametrize("method", recipes.names())
def test_an_update_stays_on_its_device(method, dataset):
    """No tensor of the CPU beside one of the device, no value read and none copied, but where the field says: on the host."""
    with pretended() as seen:
        t = brief(method, dataset, device=DEVICE)
        t.task.data(2, generator(0, "constants, which are copied once", DEVICE))
        seen.reads.clear(), seen.copies.clear()
        for _ in range(2):
            t.update()
        field = getattr(t, "field", getattr(t, "pairs", None))
        assert bool(seen.reads or seen.copies) == ("on the host" in (type(field).__doc__ or "")), (
            seen.reads + seen.copies
        )
        assert all(p.device == DEVICE for p in t.T.parameters())


@pytest.mark.parametrize("step", ["implicit", "sjko", "increments", "matching", "real"])
def test_a_run_writes_its_files_and_its_map_can_be_read_back(step, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "SCRATCH", tmp_path / "scratch")
    monkeypatch.setenv("GWF_PROGRESS", str(tmp_path / "progress"))
    given = SHORT | {"updates": 4, "evaluate_every": 2} | ({} if step in ("matching", "real") else {"phase": 2})
    samples, curve = loop.run(KINDS[step], step, "eight_gaussians", 0, "test", given, out=tmp_path)
    assert samples.shape == (2, 8, 2) and list(curve["step"]) == [2, 4] and curve["phase"].iloc[0] == 1
    t = trainer(KINDS[step], step, **given)
    t.average.net.load_state_dict(load_file(tmp_path / "model.safetensors"))
    assert (t.task.sample(t.average.net, 8) == samples[-1]).all()


def test_the_network_of_images_has_the_size_it_says():
    assert sum(p.numel() for p in ConvTransport(1).parameters()) == 110_657
