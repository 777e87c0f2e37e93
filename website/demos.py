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
TEMPERATURES, BATCHES = (0.03, 0.1, 0.3, 1.0), (4, 8, 16, 32)
POINTS, ARROWS, DRAWS = 64, 32, 16


def gaussians():
    """The exact JKO sequence for every step size, and the exact flow."""
    from gwf.exact import gaussian

    t = np.linspace(0, HORIZON, 81)
    sequences = []
    for tau in TAUS:
        m, s = gaussian.jko_sequence(*START, *TARGET, tau, int(HORIZON / tau + 1e-9))
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
    """The Sinkhorn field of all points, and its mean, bias and noise over random batches (see `gwf.minibatch_bias`)."""
    import gwf

    rng = np.random.default_rng(0)
    angle = np.arange(POINTS) % 8 * np.pi / 4
    y = np.stack([np.cos(angle), np.sin(angle)], 1) + 0.08 * rng.normal(size=(POINTS, 2))
    x, unit = 0.35 * rng.normal(size=(POINTS, 2)), y.var(0).sum()
    size = lambda V: np.square(V).sum(-1).mean()
    fields = []
    for temperature in TEMPERATURES:
        settings = {"reg": temperature * unit, "relative": False}
        V, means = gwf.velocity(x, y, "sinkhorn", **settings), []
        for batch in BATCHES:
            drawn = np.empty((DRAWS, POINTS, 2))
            for k in range(DRAWS):
                pairs = zip(*(rng.permutation(POINTS).reshape(-1, batch) for _ in range(2)), strict=True)
                for at, data in pairs:
                    drawn[k, at] = gwf.velocity(x[at], y[data], "sinkhorn", **settings)
            noise = size(drawn - drawn.mean(0)) * DRAWS / (DRAWS - 1)
            bias = max(size(drawn.mean(0) - V) - noise / DRAWS, 0.0)
            measured = {"bias": np.sqrt(bias / size(V)), "noise": np.sqrt(noise / size(V))}
            means.append({"mean": drawn.mean(0)[:ARROWS]} | measured)
        fields.append({"all": V[:ARROWS], "batches": means})
    return {"points": POINTS, "x": x[:ARROWS], "y": y, "temperatures": TEMPERATURES, "sizes": BATCHES, "fields": fields}


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
