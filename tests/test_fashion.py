"""Clothes: the embedded file, its yardstick, and what measures generated ones."""

import shutil

import numpy as np
import pytest

from gwf.data import fashion
from gwf.data.embedded import DataError
from gwf.metrics.lenet import extract, load
from gwf.training import tasks
from notebooks.experiments import images


@pytest.fixture(scope="module")
def real():
    return fashion.fashion()


def test_the_last_2000_of_10000_are_held_out(real):
    assert real.train.shape == (8000, 28, 28) and real.test.shape == (2000, 28, 28) and real.train.dtype == np.uint8
    counts = np.bincount(np.concatenate([real.train_labels, real.test_labels]), minlength=10)
    assert counts.tolist() == [1000] * 10


@pytest.mark.parametrize("name", fashion.SHA256)
def test_a_damaged_or_missing_file_is_named_with_what_mends_it(name, tmp_path, monkeypatch):
    shutil.copytree(fashion.FOLDER, tmp_path / "fashion")
    monkeypatch.setattr(fashion, "FOLDER", tmp_path / "fashion")
    path = tmp_path / "fashion" / name
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"{name} is damaged.*git checkout embedded"):
        fashion.verified(name)
    path.unlink()
    with pytest.raises(DataError, match=f"{name} is missing.*git checkout embedded"):
        fashion.verified(name)


def test_the_yardstick_reads_1738_of_the_held_out_clothes(real):
    """Which their training printed: 86.9 %."""
    net, sha256 = load(fashion.verified("lenet.safetensors"))
    _, predicted = extract(net, real.test)
    assert (predicted == real.test_labels).sum() == 1738 and sha256 == fashion.SHA256["lenet.safetensors"]


def test_real_clothes_score_like_the_floor_and_noise_does_not(real):
    """Noise is three hundred times as far as the training photographs."""
    net, _ = load(fashion.verified("lenet.safetensors"))
    noise = np.random.default_rng(0).integers(0, 256, (300, 28, 28), dtype=np.uint8)
    row, classes = images.measured(noise, net, real)
    assert row["fd_lenet_floor"] < 0.6 and row["fd_lenet"] > 100 * row["fd_lenet_floor"]
    assert classes["floor"].sum() == pytest.approx(1) and classes["floor"].min() > 0.08


def test_copies_are_nearer_to_the_training_images_and_fresh_images_are_not(real):
    """Copies of either set are at distance zero of it; the rows of the train part that are not compared with are of neither."""
    copies, fresh = real.train[::4], real.train[1::4]
    assert images.nearer_to_train(copies[:300], real) == 1 and images.nearer_to_train(real.test[:300], real) == 0
    # Four standard deviations of 2000 fair coins.
    assert abs(images.nearer_to_train(fresh, real) - 0.5) < 4 * 0.5 / 2000**0.5


def test_a_task_of_clothes_draws_train_photographs(real):
    task = tasks.get("fashion")(0, "cpu")
    drawn = np.rint((task.data(4, None).numpy()[:, 0] + 1) * 127.5).astype(np.uint8)
    assert all((real.train == image).all((1, 2)).any() for image in drawn)
