"""The JKO step and the training loop: what is frozen, what is equal to what, what a killed run does."""

import contextlib
import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from pretended_device import DEVICE, pretended
from small_trainers import trainer as small

from gwf.errors import UsageError
from gwf.nets.conv import ConvMap
from gwf.steps.jko import JKO
from gwf.training import checkpoint, recipes, tasks
from gwf.training import loop as train
from gwf.training.base import Average
from gwf.training.checkpoint import Checkpoint
from gwf.training.implicit import JKO as JKOTrainer
from gwf.training.settings import RANGES, complete

#: Seconds of training; the rest is as the method and the data set have it.
SETTINGS = {"updates": 24, "batch": 32, "ema": 0.9, "evaluate_every": 12, "n_samples": 64}
FILES = ("settings.json", "curve.csv", "samples.npy", "model.safetensors")


@pytest.fixture(autouse=True)
def scratch(tmp_path, monkeypatch):
    monkeypatch.setattr(train, "SCRATCH", tmp_path / "scratch")
    monkeypatch.setenv("GWF_PROGRESS", str(tmp_path / "progress"))


def trainer(functional="kl_dv", step="jko", **changes):
    of, task = recipes.get(functional, step), tasks.get("eight_gaussians")
    settings = complete(of.Settings, task.defaults, SETTINGS | changes)
    return of(functional, task(0, torch.device("cpu")), settings, 0, torch.device("cpu"))


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
        t.descend(t.opt_h, t.losses.critic_loss(x, y, t.streams["penalty"]))
        assert torch.equal(before, weights(t.T)) and all(p.grad is None for p in t.T.parameters())

    def test_the_anchor_advances_every_phase(self):
        t = trainer(phase=8)
        for _ in range(7):
            t.update()
        assert t.phase() == 1 and not torch.equal(weights(t.prox.T_k), weights(t.T))
        t.update()
        assert torch.equal(weights(t.prox.T_k), weights(t.T))

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

    @pytest.mark.parametrize("method", [m for m in recipes.names() if m.rsplit("-", 1)[1] in ("gan", "jko", "euler")])
    def test_every_recipe_trains(self, method):
        """Ten updates of every functional with these steps (others: `test_recipes.py`): finite losses, and the weights move."""
        functional, step = method.rsplit("-", 1)
        t = trainer(functional, step)
        before = weights(t.T)
        losses = [t.update() for _ in range(10)]
        assert all(torch.isfinite(loss) for triple in losses for loss in triple)
        assert not torch.equal(before, weights(t.T))
        assert all(float(triple[2]) == 0 for triple in losses) == (step != "jko")

    @pytest.mark.parametrize("method", ["kl_dv-jko", "w1-jko", "chi2-gan", "w2-euler", "w1-euler", "sinkhorn-euler"])
    def test_mixed_precision_keeps_weights_and_losses_in_full(self, method):
        """Also the penalty between generated and real samples, which mixes the two."""
        t = trainer(*method.rsplit("-", 1), amp=True)
        losses = [t.update() for _ in range(6)]
        assert all(torch.isfinite(loss) and loss.dtype == torch.float32 for triple in losses for loss in triple)
        assert all(p.dtype == torch.float32 for p in t.T.parameters())
        full = trainer(*method.rsplit("-", 1))
        z = t.draw_latent()
        # the products really are rounded: 8 bits of a bfloat16
        assert not torch.equal(t.fast(t.T)(z), t.T(z)) and torch.equal(full.fast(full.T)(z), full.T(z))

    def test_the_average_is_that_of_torch(self):
        """`AveragedModel` with buffers, bit for bit, batch-norm statistics and their counts included."""
        from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

        T = ConvMap()
        ours, theirs = Average(T, 0.9), AveragedModel(T, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
        for _ in range(3):
            with torch.no_grad():
                T.linear.weight += torch.randn_like(T.linear.weight)
            T(torch.randn(8, 32))
            ours.update()
            theirs.update_parameters(T)
        for a, b in zip(ours.net.state_dict().values(), theirs.module.state_dict().values(), strict=True):
            assert torch.equal(a, b)


class TestRun:
    def test_a_killed_run_resumes_to_the_same_bytes(self, tmp_path, monkeypatch):
        go(out=tmp_path / "whole")
        monkeypatch.setattr(checkpoint, "EVERY", 0.0)
        monkeypatch.setattr(checkpoint, "SHARE", 0.0)
        update = JKOTrainer.update

        def killed(self):
            if self.step == 13:
                raise KeyboardInterrupt
            return update(self)

        monkeypatch.setattr(JKOTrainer, "update", killed)
        with pytest.raises(KeyboardInterrupt):
            go(out=tmp_path / "broken")
        resumed_at = []

        def resumed(self):
            resumed_at.append(self.step)
            return update(self)

        monkeypatch.setattr(JKOTrainer, "update", resumed)
        go(out=tmp_path / "broken")
        assert resumed_at[0] == 13
        for name in FILES:
            assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "broken" / name).read_bytes(), name

    def test_a_checkpoint_of_other_parameters_is_not_used(self, tmp_path):
        store = Checkpoint(tmp_path, "one")
        store.save({"step": 3})
        assert store.load("cpu") == {"step": 3}
        assert Checkpoint(tmp_path, "other").load("cpu") is None

    def test_a_checkpoint_takes_at_most_a_twentieth_of_the_time(self, tmp_path, monkeypatch):
        now = [0.0]
        monkeypatch.setattr(checkpoint.time, "monotonic", lambda: now[0])
        monkeypatch.setattr(checkpoint, "replace", lambda path, write: now.__setitem__(0, now[0] + 3))
        store = Checkpoint(tmp_path, "key")
        assert not store.due()
        now[0] = 10.0
        assert store.due()
        store.save({})
        now[0] = 13.0 + 59
        assert not store.due()
        now[0] = 13.0 + 60
        assert store.due()

    def test_a_pause_stops_the_watch(self, monkeypatch):
        now = [5.0]
        monkeypatch.setattr(train.time, "monotonic", lambda: now[0])
        watch = train.Stopwatch(before=1.0)
        now[0] = 7.0
        with watch.paused():
            now[0] = 100.0
            assert watch.seconds == 3.0
        now[0] = 101.0
        assert watch.seconds == 4.0

    def test_outputs_know_neither_time_nor_machine_and_the_latest_time_counts(self, tmp_path):
        go(out=tmp_path / "run")
        first = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
        (note,) = (tmp_path / "scratch/timing/test").iterdir()
        written = note.stat().st_mtime_ns
        go(out=tmp_path / "run")
        assert first == {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
        assert set(first) == set(FILES) and note.stat().st_mtime_ns > written
        assert set(json.loads(note.read_text())) >= {"seconds", "ms_per_update", "cpu", "threads"}

    def test_samples_of_every_evaluation_are_kept(self, tmp_path):
        samples, curve = go(out=tmp_path / "run", updates=30)
        assert samples.shape == (3, 64, 2) and list(curve["step"]) == [12, 24, 30]
        assert not np.array_equal(samples[1], samples[2])
        assert np.array_equal(samples, np.load(tmp_path / "run/samples.npy"))

    def test_another_seed_has_other_bytes(self, tmp_path):
        go(out=tmp_path / "0")
        train.run("kl_dv", "jko", "eight_gaussians", 1, "test", SETTINGS, out=tmp_path / "1")
        assert not np.array_equal(np.load(tmp_path / "0/samples.npy")[-1], np.load(tmp_path / "1/samples.npy")[-1])

    def test_a_non_finite_loss_stops_with_step_and_checkpoint(self, monkeypatch):
        monkeypatch.setattr(checkpoint, "EVERY", 0.0)
        monkeypatch.setattr(checkpoint, "SHARE", 0.0)
        update = JKOTrainer.update

        def poisoned(self):
            if self.step == 9:
                with torch.no_grad():
                    next(self.critic.parameters()).fill_(math.nan)
            return update(self)

        monkeypatch.setattr(JKOTrainer, "update", poisoned)
        with pytest.raises(train.NonFiniteLoss, match=r"step 10: critic_loss = nan.*checkpoint\.pt") as error:
            go()
        path = str(error.value).rsplit(": ", 1)[1]
        state = torch.load(path, weights_only=True)["state"]
        assert state["step"] == 9 and all(torch.isfinite(w).all() for w in state["parts"]["T"].values())

    @pytest.mark.parametrize(("poisoned", "kept"), [(None, [4, 8]), (4, []), (6, [4])])
    def test_off_the_cpu_too_only_states_that_were_looked_at_are_kept(self, poisoned, kept, monkeypatch):
        """A weight that becomes NaN after an update whose losses are finite, where losses are read every fourth time."""

        class Kept(list):
            path, due = Path("none"), lambda self: True

            def save(self, state):
                assert all(w.held.isfinite().all() for part in ("T", "critic") for w in state["parts"][part].values())
                self.append(state["step"])

        monkeypatch.setattr(train, "LOOK_EVERY", 4)
        with pretended():
            t, store = small("kl_dv", "jko", device=DEVICE, updates=8, evaluate_every=100), Kept()
            update = t.update

            def and_break():
                losses = update()
                if t.step == poisoned:
                    with torch.no_grad():
                        next(t.critic.parameters()).fill_(math.nan)
                return losses

            t.update = and_break
            with pytest.raises(train.NonFiniteLoss) if poisoned else contextlib.nullcontext():
                train.train(t, store, "test")
        assert store == kept

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
            ("lr_map", "1e-3"),
            ("ema", 1.5),
            ("ema", True),
            ("batch", 1),
            ("batch", 32.5),
            ("updates", 0),
            ("updates", True),
            ("penalty", math.nan),
            ("per_dimension", 1),
        ],
    )
    def test_values_out_of_range_stop_before_training(self, name, value):
        with pytest.raises(UsageError, match=name):
            go(**{name: value})

    @pytest.mark.parametrize(
        ("step", "name", "hint"), [("jko", "penalti", ": did you mean 'penalty'"), ("euler", "phase", ". Valid")]
    )
    def test_a_step_knows_its_own_settings_alone(self, step, name, hint):
        with pytest.raises(UsageError, match=f"unknown training setting '{name}'{hint}"):
            go("w1", step, **{name: 1})

    def test_every_setting_has_a_range_and_whole_numbers_may_be_numpys(self):
        fields = [field for step in recipes.STEPS.values() for field in dataclasses.fields(step.Settings)]
        assert {field.name for field in fields if field.type is not bool} == set(RANGES)
        assert type(complete(JKOTrainer.Settings, {}, {"batch": np.int64(8)}).batch) is int

    def test_a_missing_gpu_is_said_plainly(self):
        if not torch.cuda.is_available():
            with pytest.raises(UsageError, match="no CUDA device"):
                train.run("kl", "jko", "eight_gaussians", 0, "test", SETTINGS, device="cuda")
