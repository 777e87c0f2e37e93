"""The JKO step and the training loop: what is frozen, what is equal to what, what a killed run does."""

import json
import math

import numpy as np
import pytest
import torch

from gwf.errors import UsageError
from gwf.nets.conv import ConvMap
from gwf.steps.jko import JKO
from gwf.training import implicit, recipes, tasks
from gwf.training import loop as train
from gwf.training.checkpoint import Checkpoint

SETTINGS = {
    "updates": 24,
    "phase": 8,
    "batch": 32,
    "tau": 0.5,
    "per_dimension": False,
    "nonsaturating": False,
    "lr_map": 1e-3,
    "lr_critic": 1e-3,
    "penalty": 0.2,
    "penalty_every": 2,
    "lipschitz": 10.0,
    "ema": 0.9,
    "evaluate_every": 12,
    "n_samples": 64,
    "threads": 1,
    "amp": False,
}


@pytest.fixture(autouse=True)
def scratch(tmp_path, monkeypatch):
    monkeypatch.setattr(train, "SCRATCH", tmp_path / "scratch")
    monkeypatch.setenv("GWF_PROGRESS", str(tmp_path / "progress"))


def trainer(functional="kl_dv", step="jko", **changes):
    settings = SETTINGS | changes
    device = torch.device("cpu")
    task = tasks.get("eight_gaussians")(None, 0, settings["n_samples"], device)
    return train.make(recipes.get(functional, step), task, settings, 0, device)


def weights(net):
    return torch.cat([p.detach().flatten() for p in net.parameters()])


def go(functional="kl_dv", step="jko", out=None, **changes):
    return train.run(functional, step, "eight_gaussians", 0, "test", SETTINGS | changes, out=out)


class TestProximalTerm:
    def test_is_zero_at_the_frozen_map(self):
        """Exactly, batch normalisation included: T_k uses the statistics of its batch, as T does."""
        T = ConvMap()
        z = torch.randn(8, 32)
        T(z)
        prox = JKO(T, 0.5)
        assert float(prox.proximal(T(z), z).detach()) == 0

    @pytest.mark.parametrize("tau", [0.1, 2.0])
    def test_has_the_stated_weight_in_both_conventions(self, tau):
        T = torch.nn.Linear(3, 5)
        z = torch.randn(7, 3)
        x = T(z) + 2
        total, mean = JKO(T, tau), JKO(T, tau, per_dimension=True)
        assert float(total.proximal(x, z).detach()) == pytest.approx(5 * 4 / (2 * tau), rel=1e-6)
        assert float(mean.proximal(x, z)) == pytest.approx(4 / (2 * tau), rel=1e-6)
        # a mean cost with step tau is the Euclidean cost with step d tau
        assert mean.euclidean_tau(5) == 5 * tau and total.euclidean_tau(5) == tau
        assert float(JKO(T, mean.euclidean_tau(5)).proximal(x, z)) == pytest.approx(float(mean.proximal(x, z)))

    def test_the_anchor_moves_only_when_told(self):
        T = torch.nn.Linear(2, 2)
        prox = JKO(T, 1.0)
        with torch.no_grad():
            T.weight += 1
        assert not torch.equal(prox.T_k.weight, T.weight)
        prox.advance()
        assert torch.equal(prox.T_k.weight, T.weight)
        assert not any(p.requires_grad for p in prox.T_k.parameters())

    @pytest.mark.parametrize("tau", [0, -1, math.nan])
    def test_a_step_that_is_not_positive_is_refused(self, tau):
        with pytest.raises(UsageError, match="tau"):
            JKO(torch.nn.Linear(1, 1), tau)


class TestUpdate:
    def test_an_infinite_step_is_the_gan(self):
        """`jko` with tau = infinity and `gan` give the same parameters, bit for bit, after 30 updates."""
        a, b, c = trainer(step="jko", tau=math.inf), trainer(step="gan"), trainer(step="jko")
        for _ in range(30):
            for t in (a, b, c):
                t.update()
        assert torch.equal(weights(a.T), weights(b.T)) and torch.equal(weights(a.critic), weights(b.critic))
        assert not torch.equal(weights(c.T), weights(b.T))  # control: a finite step is something else

    def test_the_critics_step_leaves_the_map_alone(self):
        t = trainer()
        before = weights(t.T)
        y, z = t.task.data(32, t.streams["data"]), t.task.latent(32, t.streams["latent"])
        x = t.T(z)
        t.descend(t.opt_h, t.step_of.critic_loss(x, y, t.streams["penalty"]))
        assert torch.equal(before, weights(t.T)) and all(p.grad is None for p in t.T.parameters())

    def test_the_anchor_advances_every_phase(self):
        t = trainer()
        for _ in range(7):
            t.update()
        assert not torch.equal(weights(t.step_of.prox.T_k), weights(t.T))
        t.update()
        assert torch.equal(weights(t.step_of.prox.T_k), weights(t.T))

    def test_a_smaller_step_holds_the_map_closer(self):
        moved = {}
        for tau in (0.01, 1.0):
            t = trainer(tau=tau, phase=1000)
            z = t.task.latent(256, t.streams["latent"])
            start = t.T(z).detach()
            for _ in range(60):
                t.update()
            moved[tau] = float((t.T(z) - start).square().sum(1).mean())
        assert moved[0.01] < 0.5 * moved[1.0]

    @pytest.mark.parametrize("method", recipes.names())
    def test_every_recipe_trains(self, method):
        """Ten updates of every registered functional with every step it allows: finite losses, and the weights move."""
        functional, step = method.rsplit("-", 1)
        t = trainer(functional, step)
        before = weights(t.T)
        losses = [t.update() for _ in range(10)]
        assert all(torch.isfinite(loss) for triple in losses for loss in triple)
        assert not torch.equal(before, weights(t.T))
        assert all(float(triple[2]) == 0 for triple in losses) == (step != "jko")

    def test_mixed_precision_trains(self):
        t = trainer(amp=True)
        losses = [t.update() for _ in range(10)]
        assert all(torch.isfinite(loss) for triple in losses for loss in triple)
        assert all(p.dtype == torch.float32 for p in t.T.parameters())


class TestRun:
    def test_a_killed_run_resumes_to_the_same_bytes(self, tmp_path, monkeypatch):
        go(out=tmp_path / "whole")
        monkeypatch.setattr(train, "CHECKPOINT_EVERY", 0.0)
        update = implicit.Trainer.update

        def killed(self):
            if self.step == 13:
                raise KeyboardInterrupt
            return update(self)

        monkeypatch.setattr(implicit.Trainer, "update", killed)
        with pytest.raises(KeyboardInterrupt):
            go(out=tmp_path / "broken")
        resumed_at = []

        def resumed(self):
            resumed_at.append(self.step)
            return update(self)

        monkeypatch.setattr(implicit.Trainer, "update", resumed)
        go(out=tmp_path / "broken")
        assert resumed_at[0] == 13
        for name in ("metrics.json", "curve.csv", "samples.npy", "model.safetensors"):
            assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "broken" / name).read_bytes(), name

    def test_a_checkpoint_of_other_parameters_is_not_used(self, tmp_path):
        store = Checkpoint(tmp_path, "one")
        store.save({"step": 3})
        assert store.load("cpu") == {"step": 3}
        assert Checkpoint(tmp_path, "other").load("cpu") is None

    def test_a_second_run_has_the_same_bytes_and_keeps_its_record(self, tmp_path):
        go(out=tmp_path / "run")
        first = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
        go(out=tmp_path / "run")
        assert first == {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
        assert set(json.loads(first["run.json"])) >= {"results", "seconds", "ms_per_update", "cpu", "threads"}

    def test_another_seed_has_other_bytes(self, tmp_path):
        go(out=tmp_path / "0")
        train.run("kl_dv", "jko", "eight_gaussians", 1, "test", SETTINGS, out=tmp_path / "1")
        assert not np.array_equal(np.load(tmp_path / "0/samples.npy"), np.load(tmp_path / "1/samples.npy"))

    def test_a_non_finite_loss_stops_with_step_and_checkpoint(self, monkeypatch):
        monkeypatch.setattr(train, "CHECKPOINT_EVERY", 0.0)
        update = implicit.Trainer.update

        def poisoned(self):
            if self.step == 9:
                with torch.no_grad():
                    next(self.critic.parameters()).fill_(math.nan)
            return update(self)

        monkeypatch.setattr(implicit.Trainer, "update", poisoned)
        with pytest.raises(train.NonFiniteLoss, match=r"step 10: critic_loss = nan.*checkpoint\.pt") as error:
            go()
        path = str(error.value).rsplit(": ", 1)[1]
        state = torch.load(path, weights_only=True)["state"]
        assert state["step"] == 9 and all(torch.isfinite(w).all() for w in state["T"].values())

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("kl_vd", "jko", "eight_gaussians"), "did you mean 'kl_dv'"),
            (("kl", "jk", "eight_gaussians"), "did you mean 'jko'"),
            (("kl", "jko", "eight_gausians"), "did you mean 'eight_gaussians'"),
        ],
    )
    def test_misspelt_names_stop_before_training(self, arguments, message):
        with pytest.raises(UsageError, match=message):
            train.run(*arguments, 0, "test", SETTINGS)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("tau", 0),
            ("lr_map", 2.0),
            ("ema", 1.5),
            ("batch", 1),
            ("updates", 0),
            ("penalty", -1),
            ("per_dimension", 1),
        ],
    )
    def test_values_out_of_range_stop_before_training(self, name, value):
        with pytest.raises(UsageError, match=name):
            go(**{name: value})

    def test_unknown_and_missing_settings_stop_before_training(self):
        with pytest.raises(UsageError, match="did you mean 'penalty'"):
            go(penalti=1)
        with pytest.raises(UsageError, match="'ema' is missing"):
            settings = {name: value for name, value in SETTINGS.items() if name != "ema"}
            train.run("kl", "jko", "eight_gaussians", 0, "test", settings)

    def test_a_missing_gpu_is_said_plainly(self):
        if not torch.cuda.is_available():
            with pytest.raises(UsageError, match="no CUDA device"):
                train.run("kl", "jko", "eight_gaussians", 0, "test", SETTINGS, device="cuda")
