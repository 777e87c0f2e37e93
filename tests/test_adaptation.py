"""Adaptation by transport: readers of the published files, closed-form maps, plans, learned maps."""

import bz2
import gzip
import hashlib
import struct
import sys

import h5py
import numpy as np
import pandas as pd
import pytest
import torch

from companion.claims import NotRun
from gwf.data import files, readers
from gwf.errors import UsageError
from gwf.exact.gaussian import fitted_map
from gwf.metrics import sliced_w2
from notebooks.experiments import adaptation_transports as ad
from notebooks.experiments import intervals
from tests.notebook_code import load_notebook

IDX = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)


def write_idx(path, array):
    head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(gzip.compress(head + array.tobytes()))


@pytest.fixture
def some():
    """Six 28x28 images and four 16x16 ones with labels, bytes at random."""
    draw = np.random.default_rng(0)
    return {
        n: (draw.integers(0, 256, (m, n, n), dtype=np.uint8), draw.integers(0, 10, m, dtype=np.uint8))
        for n, m in ((28, 6), (16, 4))
    }


# Readers.


def test_mnist_files_come_back(tmp_path, some, monkeypatch, capsys):
    images, labels = some[28]
    for name, array in zip(IDX, (images, labels, images[:2], labels[:2]), strict=True):
        write_idx(tmp_path / name, array)
    with pytest.raises(UsageError, match="train-images.*its sha256 is"):
        readers.mnist(tmp_path)
    # Of the content, whoever has packed it: gzip writes the time into a file.
    held = [gzip.decompress((tmp_path / name).read_bytes()) for name in IDX]
    digests = {name: ("sha256", hashlib.sha256(raw).hexdigest()) for name, raw in zip(IDX, held, strict=True)}
    monkeypatch.setattr(readers, "DIGESTS", digests)
    for name, raw in zip(IDX, held, strict=True):
        (tmp_path / name).write_bytes(gzip.compress(raw, 1, mtime=1))
    assert (readers.mnist(tmp_path).train == images).all()
    monkeypatch.setattr(readers, "DIGESTS", {})
    found = readers.mnist(tmp_path)
    assert (found.train == images).all() and (found.test_labels == labels[:2]).all()
    assert capsys.readouterr().err.count("sha256") == 4
    assert readers.domain("mnist", tmp_path).train.shape == (6, 16, 16)


def test_mnist_packed_by_another_gzip_is_mnist(tmp_path, some, monkeypatch, capsys):
    """Name, time and level of a gzip file are no part of the data; one byte of the data is."""
    labels = some[28][1]
    content = bytes([0, 0, 8, 1]) + struct.pack(">I", len(labels)) + labels.tobytes()
    name = "t10k-labels-idx1-ubyte.gz"
    monkeypatch.setitem(readers.DIGESTS, name, ("sha256", hashlib.sha256(content).hexdigest()))
    for level, time in ((1, 0), (9, 1_000_000)):
        (tmp_path / name).write_bytes(gzip.compress(content, level, mtime=time))
        assert (readers.idx(readers.checked(tmp_path, name)) == labels).all()
    assert not capsys.readouterr().err
    (tmp_path / name).write_bytes(gzip.compress(content[:-1] + b"\x0a"))
    with pytest.raises(UsageError, match="its sha256 is"):
        readers.checked(tmp_path, name)


def test_usps_libsvm_files_come_back(tmp_path, some, monkeypatch):
    images, labels = some[16]
    lines = [
        f"{label + 1} " + " ".join(f"{k}:{u / 127.5 - 1:.6f}" for k, u in enumerate(image.ravel(), 1))
        for image, label in zip(images, labels, strict=True)
    ]
    for name in ("usps.bz2", "usps.t.bz2"):
        (tmp_path / name).write_bytes(bz2.compress("\n".join(lines).encode()))
    monkeypatch.setattr(readers, "DIGESTS", {})
    found = readers.usps(tmp_path)
    assert (found.train == images).all() and (found.test_labels == labels).all()


def test_usps_hdf5_file_comes_back(tmp_path, some):
    images, labels = some[16]
    with h5py.File(tmp_path / "usps.h5", "w") as file:
        for part in ("train", "test"):
            file[f"{part}/data"], file[f"{part}/target"] = (
                (images / 255).reshape(-1, 256).astype("f4"),
                labels.astype("i8"),
            )
    found = readers.usps(tmp_path)
    assert (found.train == images).all() and (found.test_labels == labels).all()


SIXTEEN = np.zeros((4, 256))


@pytest.mark.parametrize(
    "pixels, labels, message",
    [
        (SIXTEEN, np.zeros(3), r"labels \(3,\) of images \(4, 16, 16\)"),
        (SIXTEEN, np.eye(10)[:4], r"labels \(4, 10\)"),
        (SIXTEEN.T, np.zeros(4), r"images \(256, 4\)"),
        (SIXTEEN, [0, 1, 2, 10], "labels .*10.*not whole numbers of 0 to 9"),
        (SIXTEEN, [0, 1, 2, 2.5], "labels .*2.5.*not whole"),
        (SIXTEEN, np.full(4, np.nan), "labels .*nan"),
        (SIXTEEN, [b"a"] * 4, "labels .*not whole"),
        (SIXTEEN + np.nan, np.zeros(4), r"pixels in \[nan"),
        (SIXTEEN + 255, np.zeros(4), r"pixels in \[255, 255\]"),
        (SIXTEEN[:0], np.zeros(0), r"images \(0, 16, 16\)"),
        (np.full((4, 256), b"x"), np.zeros(4), "arrays data and target"),
        (1.0, np.zeros(4), "arrays data and target"),
    ],
)
def test_what_is_not_usps_is_refused(tmp_path, pixels, labels, message):
    with h5py.File(tmp_path / "usps.h5", "w") as file:
        for part in ("train", "test"):
            file[f"{part}/data"], file[f"{part}/target"] = pixels, labels
    with pytest.raises(UsageError, match=message) as caught:
        readers.usps(tmp_path)
    assert "\n" not in str(caught.value)


def test_images_on_their_sides_are_refused(tmp_path):
    """The other digits in the repository, as usps.h5 would have them, and each of them transposed."""
    held = readers.domain("digits", size=16)
    for turned in (False, True):
        with h5py.File(tmp_path / "usps.h5", "w") as file:
            for part, u, label in (("train", held.train, held.train_labels), ("test", held.test, held.test_labels)):
                u = np.swapaxes(u, 1, 2) if turned else u
                file[f"{part}/data"], file[f"{part}/target"] = u.reshape(len(u), -1) / 255, label
        if turned:
            with pytest.raises(UsageError, match="on their sides"):
                readers.usps(tmp_path)
        else:
            assert (readers.usps(tmp_path).train == held.train).all()


def test_mnist_files_of_different_lengths_are_refused(tmp_path, some, monkeypatch):
    images, labels = some[28]
    monkeypatch.setattr(readers, "DIGESTS", {})
    for name, array in zip(IDX, (images, labels[:5], images, labels), strict=True):
        write_idx(tmp_path / name, array)
    with pytest.raises(UsageError, match=r"train: labels \(5,\) of images \(6, 28, 28\)"):
        readers.mnist(tmp_path)


@pytest.mark.parametrize("raw", [b"<!doctype html>", b"", gzip.compress(b"0" * 999, mtime=0)[:20]])
def test_a_page_or_half_a_file_in_place_of_a_file(tmp_path, raw):
    for name in (*IDX, "usps.bz2", "usps.t.bz2"):
        (tmp_path / name).write_bytes(raw)
    for read in (readers.mnist, readers.usps):
        with pytest.raises(UsageError, match="not a whole gzip file|is damaged or another file") as caught:
            read(tmp_path)
        assert "\n" not in str(caught.value)


def test_without_h5py_the_extra_is_named(tmp_path, monkeypatch):
    (tmp_path / "usps.h5").write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(UsageError, match=r"\[hdf5\]"):
        readers.usps(tmp_path)


def test_what_is_absent_is_named_and_one_complete_set_is_enough(tmp_path):
    assert files.absent("digits", tmp_path) == [] and files.absent("usps", tmp_path) == ["usps.h5"]
    (tmp_path / "usps.bz2").touch()
    assert files.absent("usps", tmp_path) == ["usps.h5"] and len(files.absent("mnist", tmp_path)) == 4
    (tmp_path / "usps.t.bz2").touch()
    assert files.absent("usps", tmp_path) == []


@pytest.mark.parametrize("name, file", [("usps", "usps.h5"), ("mnist", "train-images-idx3-ubyte.gz")])
def test_a_missing_file_is_named_with_its_place(tmp_path, name, file):
    with pytest.raises(UsageError, match=f"{file} is missing: put it at .*{tmp_path.name}"):
        readers.domain(name, tmp_path)
    with pytest.raises(UsageError, match="did you mean 'usps'"):
        readers.domain("upsp")


@pytest.mark.parametrize(
    "raw, message",
    [
        (b"\1\0\x08\1", "not an idx"),
        (b"\0\0\x08\1\0\0\0\3ab", "2 values, its header says 3"),
        (b"\0\0\x08\3\0\0", "ends within its header"),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path, raw, message):
    (tmp_path / "x.gz").write_bytes(gzip.compress(raw))
    with pytest.raises(UsageError, match=message):
        readers.idx(tmp_path / "x.gz")
    (tmp_path / "x.gz").write_bytes(gzip.compress(raw)[:-4])
    with pytest.raises(UsageError, match="not a whole gzip file"):
        readers.idx(tmp_path / "x.gz")
    (tmp_path / "x.bz2").write_bytes(bz2.compress(b"1 1:0.5\n2 300:1"))
    with pytest.raises(UsageError, match="indices 1 to 256.*300 features"):
        readers.libsvm(tmp_path / "x.bz2")


# Transports.


@pytest.fixture(scope="module")
def cloud():
    """x (300, 4) with a mean and unequal scales, and an SPD matrix."""
    draw = np.random.default_rng(1)
    A = draw.standard_normal((4, 4))
    return draw.standard_normal((300, 4)) * [1, 2, 0.5, 1] + 3, A @ A.T + 0.5 * np.eye(4)


def test_the_gaussian_map_recovers_an_optimal_affine_map_and_only_that(cloud):
    """Sample moments transform exactly, so the error is rounding (1e-9 of numbers of order 10); a matrix that is not
    symmetric is no optimal map, and is not found."""
    x, M = cloud
    assert np.abs(fitted_map(x, x @ M + 1)(x) - (x @ M + 1)).max() < 1e-9
    turned = x @ (M @ np.array([[0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]))
    assert np.abs(fitted_map(x, turned)(x) - turned).max() > 0.1


def test_per_pixel_map_is_exact_on_independent_scales_and_leaves_noise_alone(cloud):
    x, _ = cloud
    y = x * [2, 0.5, 1, 3] - 1
    assert np.abs(ad.per_pixel(x, y)(x) - y).max() < 1e-12
    still = x.copy()
    still[:, 0] = 0.01 * (x[:, 0] - 3)
    assert np.abs(np.std(ad.per_pixel(still, y)(still)[:, 0]) / still[:, 0].std() - 1) < 1e-12
    assert np.abs(ad.mean_shift(x, x + 2)(x) - x - 2).max() < 1e-12


def test_plans_keep_labels_where_classes_are_far_apart_and_cost_more_where_they_cross(cloud):
    x = cloud[0][:40]
    labels = np.arange(40) % 2
    far = x + 100 * labels[:, None]
    P, cost = ad.plan(far, far + 1)
    Q, held = ad.plan_within_classes(far, far + 1, labels, labels)
    assert ad.agreement(P, labels, labels) == pytest.approx(1) and held == pytest.approx(cost)
    # a shift of all points is optimal: cost |shift|^2 / 2 = 4 / 2
    assert cost == pytest.approx(2) and np.abs(ad.barycentric(P, far + 1) - far - 1).max() < 1e-9
    # the classes exchanged in the target: least cost and labels ask for opposite plans
    P, cost = ad.plan(far, far)
    Q, held = ad.plan_within_classes(far, far, labels, 1 - labels)
    assert ad.agreement(P, labels, 1 - labels) == pytest.approx(0) and ad.agreement(
        Q, labels, 1 - labels
    ) == pytest.approx(1)
    assert cost == pytest.approx(0, abs=1e-9) and held > 1000


def test_nearest_neighbour_and_permuted_labels():
    """Real digits: far above chance with their labels, at chance (.1, binomial sd .016 at n = 364; 4 of them) without."""
    S = readers.domain("optdigits")
    x, test = ad.flat(S.train), ad.flat(S.test)
    assert ad.one_nearest(x, S.train_labels, test, S.test_labels) > 0.9
    permuted = np.random.default_rng(0).permutation(S.train_labels)
    assert abs(ad.one_nearest(x, permuted, test, S.test_labels) - 0.1) < 0.064
    with pytest.raises(UsageError, match="as many"):
        ad.one_nearest(x, permuted[:-1], test, S.test_labels)


def test_sliced_distance_counts_a_shift_in_full():
    """Over directions that resolve the identity exactly, and up to 5 % over 2000 random ones in d = 4."""
    x = np.random.default_rng(0).standard_normal((200, 4))
    assert sliced_w2(x, x + [3, 0, 0, 4], np.eye(4)) == pytest.approx(5)
    w = np.random.default_rng(1).standard_normal((4, 2000))
    assert sliced_w2(x, x + [3, 0, 0, 4], w / np.linalg.norm(w, axis=0)) == pytest.approx(5, rel=0.05)
    assert sliced_w2(x, x, np.eye(4)) == 0


def test_the_plan_that_keeps_labels_costs_more_and_classifies_better():
    """A hundred digits of either set: agreement 1 by construction, no cheaper than the best plan, and more accurate."""
    S, D = readers.domain("optdigits"), readers.domain("digits")
    x, y, test = ad.flat(S.train), ad.flat(D.train), ad.flat(D.test)
    judge = ad.Judge(0, S.train_labels, y, D.train_labels, test, D.test_labels, 60, 10)
    sheet = load_notebook("adaptation")
    found = sheet.plans(x, y, S.train_labels, D.train_labels, 100, np.random.default_rng(0))
    (best, cost), (held, dear) = ((judge.discrete(P, i, j), cost) for _, _, P, cost, i, j in found)
    assert held["label_agreement"] == pytest.approx(1) and dear >= cost and held["accuracy"] > best["accuracy"]


def test_the_smaller_of_two_means_lies_between_the_lesser_ends():
    """By hand: differences -1, 0, 1 and 3, 4, 5, so 0 and 4 with the reach t(.975, 2) / sqrt(3) = 4.3027 / 1.7321."""
    rows = [(way, "b", seed, 0.0) for way in "xy" for seed in range(3)]
    rows += [(way, "a", seed, shift + seed) for way, shift in (("x", -1), ("y", 3)) for seed in range(3)]
    frame = pd.DataFrame(rows, columns=["direction", "method", "seed", "value"])
    pair = {"method": "a"}, {"method": "b"}
    (low, high), words = intervals.smallest_gap(frame, *pair, "direction")
    assert (low, high) == pytest.approx((-2.4841, 2.4841), abs=1e-4) and words.endswith("+1.516 to +6.484 (y)")
    with pytest.raises(NotRun, match="no run of"):
        intervals.smallest_gap(frame[:6], *pair, "direction")


def test_maps_start_near_the_identity_and_every_method_takes_a_step():
    sheet, x = load_notebook("adaptation"), torch.randn(8, 256)
    assert (sheet.DigitMap()(x) - x).abs().max() < 0.1
    settings = {"lr": 1e-3, "critic_lr": 1e-4, "critic_steps": 1, "persistency": 2, "eps_w1": 1.0, "reg": 0.05}
    for method in sheet.LEARNED:
        for _, T in sheet.train(method, x, x.numpy() + 1, settings, 1, 8, torch.Generator().manual_seed(0)):
            assert np.isfinite(sheet.moved_by(T, x)).all()
