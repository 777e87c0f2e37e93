"""Training, storing and using the LeNet whose features measure generated digits.

The classifier only ever sees the train part of a data set, so that its test accuracy says what its features
are worth and the held-out digits are new to it. See notebooks/runs/lenet.ipynb.
"""

import hashlib
import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors import torch as safetensors

from gwf.data.embedded import to_model, verified
from gwf.errors import UsageError, in_range, whole
from gwf.nets.lenet import LeNet
from gwf.paths import replace
from gwf.progress import Progress
from gwf.seeding import derive, generator

ROTATION = math.radians(10)
SCALE = 0.1
SHEAR = 0.15
SHIFT = 2 / 28 * 2


def random_affine(x, stream):
    """Move every image of x (n, 1, h, w) by an affine map of its own: rotated, scaled, sheared and shifted a little.

    y(p) = x(A p + b) with A = (1 + s) R(a) [[1, c], [0, 1]], where a, s, c and b are uniform: |a| <= 10 degrees,
    |s| <= .1, |c| <= .15, and |b_i| <= 2 pixels of 28. The sampling is bilinear; what comes from outside the image is
    background, -1.
    """
    u = torch.rand(5, len(x), generator=stream, device=x.device) * 2 - 1
    angle, scale, shear = ROTATION * u[0], 1 + SCALE * u[1], SHEAR * u[2]
    cos, sin = scale * angle.cos(), scale * angle.sin()
    theta = torch.stack([cos, shear * cos - sin, SHIFT * u[3], sin, shear * sin + cos, SHIFT * u[4]], dim=1).view(
        -1, 2, 3
    )
    grid = F.affine_grid(theta, x.shape, align_corners=False)
    # grid_sample pads with 0, so the background is moved from -1 to 0 and back.
    return F.grid_sample(x + 1, grid, align_corners=False) - 1


def train_lenet(digits, epochs, batch=100, lr=3e-3, seed=0, augment=True):
    """Train a `LeNet` on the train part of `digits` by cross-entropy, AdamW and a one-cycle learning rate.

    The same arguments on the same machine with the same number of threads give the same weights, bit for bit. Returned
    in evaluation mode, with `scale` set from the train digits.

    Parameters
    ----------
    digits : gwf.data.Images
        28x28 images; the test part is not looked at.
    epochs, batch, lr : int, int, float
        Passes, 1 to 1000; images per update, 1 to their number; highest rate, in (0, 1]. Else `UsageError`.
    seed, augment : int, bool
        Of weights, order, moves and dropout; whether `random_affine` moves every image each time it is used.
    """
    whole(epochs, 1, 1000, "epochs")
    whole(batch, 1, len(digits.train), "batch")
    in_range(lr, 0, 1, "lr", open_low=True)
    images = to_model(digits.train)
    labels = torch.as_tensor(digits.train_labels).long()
    order, moves = generator(seed, "lenet order"), generator(seed, "lenet augmentation")
    # Layers draw their weights and dropout from the global stream, which is put back afterwards.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "lenet weights and dropout"))
        net = LeNet().to(memory_format=torch.channels_last).train()
        steps = epochs * math.ceil(len(images) / batch)
        optimizer = torch.optim.AdamW(net.parameters(), lr=lr, weight_decay=0.01, fused=True)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=lr, total_steps=steps)
        step = 0
        with Progress(steps, f"LeNet seed {seed}") as progress:
            for _ in range(epochs):
                for chosen in torch.randperm(len(images), generator=order).split(batch):
                    x = images[chosen]
                    if augment:
                        x = random_affine(x, moves)
                    logits = net(x.contiguous(memory_format=torch.channels_last))
                    loss = F.cross_entropy(logits, labels[chosen])
                    optimizer.zero_grad(set_to_none=True)
                    loss.backward()
                    optimizer.step()
                    schedule.step()
                    step += 1
                    progress.update(step, loss=loss.detach())
    features, _ = extract(net.eval(), digits.train)
    net.scale.fill_(float(features.var(axis=0, ddof=1, dtype=np.float64).mean() ** -0.5))
    return net


@torch.inference_mode()
def extract(net, images, batch=500):
    """Features and predicted classes of images, uint8 (n, 28, 28) or (n, 1, 28, 28), `batch` of them at a time.

    Returns
    -------
    features : numpy.ndarray
        float32 (n, 128), in units in which the train digits have a mean variance of 1 per feature: how large a trained
        network makes its features is arbitrary, and squared it would be the unit of every Frechet distance.
    labels : numpy.ndarray
        int64 (n,), the class with the highest score.
    """
    net.eval()
    device = next(net.parameters()).device
    features, labels = [], []
    for start in range(0, len(images), batch):
        x = to_model(images[start : start + batch]).to(device)
        raw = net.features(x.contiguous(memory_format=torch.channels_last))
        labels.append(net.logits(raw).argmax(1))
        features.append(net.scale * raw)
    if not features:
        return np.zeros((0, net.num_features), dtype=np.float32), np.zeros(0, dtype=np.int64)
    return torch.cat(features).cpu().numpy(), torch.cat(labels).cpu().numpy()


def confusion(labels, predicted, classes=10):
    """Matrix (classes, classes) whose entry (i, j) counts the images of class i taken for j."""
    matrix = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(matrix, (np.asarray(labels, dtype=np.int64), predicted), 1)
    return matrix


def serialised(net):
    """The weights as the bytes of a safetensors file."""
    return safetensors.save({name: value.contiguous().cpu() for name, value in net.state_dict().items()})


def save(net, path):
    """Write the weights, whole or not at all, and return the sha256 of the file."""
    content = serialised(net)
    replace(path, lambda part: part.write_bytes(content))
    return hashlib.sha256(content).hexdigest()


def load(path=None):
    """The `LeNet` that `save` wrote, in evaluation mode, and the sha256 of its file: which extractor a number is of.

    Without a path the embedded one, the yardstick of every table. `UsageError` for no file, or one of other content.
    """
    path = verified("lenet.safetensors") if path is None else Path(path)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise UsageError(f"{path} is missing: notebooks/runs/lenet.ipynb writes such a file") from None
    net = LeNet().to(memory_format=torch.channels_last)
    try:
        net.load_state_dict(safetensors.load(content))
    except (SafetensorError, RuntimeError) as error:
        raise UsageError(f"{path} does not hold the weights of a LeNet ({error})") from None
    return net.eval(), hashlib.sha256(content).hexdigest()
