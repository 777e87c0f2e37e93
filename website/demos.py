"""What the demos of the reading site show, computed by gwf's exact functions: numbers for `static/demos.js`."""

import hashlib
import json

import numpy as np

from companion.files import write_text
from gwf.paths import ROOT, SCRATCH

START, TARGET, HORIZON = (-2.0, 0.4), (1.0, 1.0), 4.0  # mean and standard deviation; time
TAUS = (0.05, 0.1, 0.2, 0.35, 0.5, 0.8, 1.0, 1.5, 2.0, 4.0)
MODE_TAUS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)
MODE_STEPS = 5
TEMPERATURES = (0.02, 0.05, 0.1, 0.3, 1.0)
BATCHES = (4, 8, 16, 32, 64, 128)
POINTS, ARROWS, DRAWS = 256, 48, 40


def gaussians():
    """The exact JKO sequence for every step size, and the exact flow."""
    from gwf.exact import gaussian

    t = np.linspace(0, HORIZON, 81)
    sequences = []
    for tau in TAUS:
        m, s = gaussian.jko_sequence(*START, *TARGET, tau, round(HORIZON / tau))
        kl = gaussian.kl(m, s, *TARGET)
        sequences.append({"tau": tau, "m": m.ravel(), "s": s.ravel(), "kl": kl.ravel()})
    m, s = gaussian.ou_flow(*START, *TARGET, t)
    flow = {"t": t, "m": m, "s": s, "kl": [gaussian.kl(*at, *TARGET)[()] for at in zip(m, s, strict=True)]}
    return {"target": TARGET, "sequences": sequences, "flow": flow}


def modes():
    """Exact masses of the modes per coordinate, (tau, method or step, mode)."""
    from gwf.exact import mixtures

    found = []
    for tau in MODE_TAUS:
        laws = mixtures.twenty_five_gaussians(tau, MODE_STEPS)
        row = {"tau": tau, "jko": laws[1:], "uotm": mixtures.uotm_twenty_five(tau)}
        row["tv"] = [mixtures.tv_to_uniform(law) for law in (*row["jko"], row["uotm"])]
        row["found"] = [mixtures.modes_found(law) for law in (*row["jko"], row["uotm"])]
        found.append(row)
    return {"centres": mixtures.MODES, "laws": found}


def batches():
    """Bias and noise of the Sinkhorn field by temperature and batch, and its mean at some points."""
    import gwf

    rng = np.random.default_rng(0)
    angle = rng.integers(0, 8, POINTS) * np.pi / 4
    y = np.stack([np.cos(angle), np.sin(angle)], 1) + 0.08 * rng.normal(size=(POINTS, 2))
    x = 0.35 * rng.normal(size=(POINTS, 2))
    table = gwf.minibatch_bias(x, y, "sinkhorn", batches=BATCHES, reg=TEMPERATURES, draws=10, seeds=2, debias=True)
    fields = []
    for reg in TEMPERATURES:
        total = {"reg": reg, "all": gwf.velocity(x, y, "sinkhorn", reg=reg)[:ARROWS], "batch": []}
        for size in BATCHES:
            mean, times = np.zeros_like(x), np.zeros((POINTS, 1))
            for _ in range(max(1, DRAWS * size // POINTS)):
                order, data = rng.permutation(POINTS), rng.permutation(POINTS)
                for i in range(0, POINTS - size + 1, size):
                    rows = order[i : i + size]
                    if (rows < ARROWS).any():
                        mean[rows] += gwf.velocity(x[rows], y[data[i : i + size]], "sinkhorn", reg=reg)
                        times[rows] += 1
            total["batch"].append((mean / np.maximum(times, 1))[:ARROWS])
        fields.append(total)
    rows = table[["reg", "batch", "bias", "noise", "length"]].to_dict("records")
    return {"x": x[:ARROWS], "y": y, "temperatures": TEMPERATURES, "batches": BATCHES, "rows": rows, "fields": fields}


def rounded(value):
    """Numbers to four decimals, arrays as lists."""
    if isinstance(value, dict):
        return {name: rounded(entry) for name, entry in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [rounded(entry) for entry in value]
    return float(f"{value:.5g}") if isinstance(value, (float, np.floating)) else int(value)


def script():
    """The numbers as a script that sets `DEMOS`; computed again only after a change of gwf or of this file."""
    files = [*sorted((ROOT / "gwf").rglob("*.py")), ROOT / "website" / "demos.py"]
    key = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]
    kept = SCRATCH / "site" / f"demos-{key}.js"
    if not kept.exists():
        for old in kept.parent.glob("demos-*.js"):
            old.unlink()
        data = {"gaussians": gaussians(), "modes": modes(), "batches": batches()}
        write_text(f"const DEMOS = {json.dumps(rounded(data), separators=(',', ':'))};\n", kept)
    return kept.read_text()
