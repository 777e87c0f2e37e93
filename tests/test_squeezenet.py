"""The second extractor: it reads a photograph, sees what the LeNet does not, and its file is checked."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_sample_image

from gwf.data.embedded import DataError, digits
from gwf.errors import UsageError
from gwf.metrics import frechet_distance, lenet, squeezenet


@pytest.fixture(scope="module")
def net():
    return squeezenet.load()[0]


def test_a_temple_is_a_stupa(net):
    """Class 832 of ImageNet for the middle of scikit-learn's photograph; with red first, as the weights do not ask, it is none."""
    image = torch.tensor(load_sample_image("china.jpg")).float().permute(2, 0, 1)[None, ..., 100:527]
    means = torch.tensor(squeezenet.MEANS).view(3, 1, 1)
    small = F.interpolate(image.flip(1) - means, (227, 227), mode="bilinear", antialias=True)
    with torch.no_grad():
        right, wrong = (net(x).softmax(1)[0] for x in (small, small.flip(1)))
    assert right.argmax() == 832 and right[832] > 0.5 and wrong.argmax() != 832


def test_noise_is_seen_that_the_lenet_does_not_see(net):
    """400 digits with noise of a tenth of the range, over the same 400 without it, against 400 others."""
    real, rng = digits(), np.random.default_rng(0)
    chosen = rng.permutation(4000)
    own, other = real.train[chosen[:400]], real.train[chosen[400:800]]
    noisy = np.clip(own + rng.normal(0, 25.5, own.shape), 0, 255).astype(np.uint8)
    of_classes, _ = lenet.load()
    for extract, low, high in (
        (lambda images: squeezenet.extract(net, images), 5, np.inf),
        (lambda images: lenet.extract(of_classes, images)[0], 0, 2),
    ):
        reference = extract(other)
        ratio = frechet_distance(extract(noisy), reference) / frechet_distance(extract(own), reference)
        assert low < ratio < high


def test_features_are_finite_whatever_the_batch(net):
    images = digits().test[:7]
    features = squeezenet.extract(net, images)
    assert features.shape == (7, 512) and features.dtype == np.float32 and np.isfinite(features).all()
    assert np.allclose(features, squeezenet.extract(net, images, batch=3), atol=1e-3)
    with pytest.raises(UsageError, match="no images"):
        squeezenet.extract(net, images[:0])


@pytest.mark.parametrize("change, said", [(lambda c: c[:-1], "damaged"), (lambda c: b"", "missing")])
def test_a_damaged_file_is_named(change, said, tmp_path, monkeypatch):
    path = tmp_path / "weights"
    path.write_bytes(change(squeezenet.WEIGHTS.read_bytes()))
    monkeypatch.setattr(squeezenet, "WEIGHTS", path)
    with pytest.raises(DataError, match=f"{said}: `git checkout embedded`"):
        squeezenet.load()
