r"""Do transport scores find anomalies, and do they bear a contaminated reference? Every score beside the usual detectors.

One class of a labelled table counts as normal: 80 % of it is the reference, to which anomalies are added until they are a
share `contamination` of it; the rest of the class is tested against

    others      all rows of all other classes (but those in the reference);
    similar     those of the one class whose mean is nearest;
    rare        a random draw of the others, one for nine normal rows,

the last because "kept_mass" serves all tested rows together: where nearly all of them are anomalies it has an advantage that
a detector in use does not have. Anomalies of the reference come from the classes that are tested. Score: AUROC, each class
in turn. Data: digits / 16, wine, breast cancer (standardised by the reference), as scikit-learn ships them. On uncontaminated
digits 5-NN reaches .9975 on average over the classes: saturated. Source: proposal.
"""

import numpy as np
import pandas as pd
from sklearn import datasets
from sklearn.metrics import roc_auc_score

from gwf.errors import in_range, nearest
from gwf.seeding import derive, rng
from gwf.uses.anomaly import METHODS, anomaly_scores

TASKS = ("others", "similar", "rare")
DATA = {"digits": datasets.load_digits, "wine": datasets.load_wine, "breast cancer": datasets.load_breast_cancer}


def load(data):
    """Rows (n, d) and classes (n,) of a table in `DATA`; pixels of the digits in [0, 1]."""
    X, labels = DATA[nearest(data, DATA, "data set")](return_X_y=True)
    return (X / 16 if data == "digits" else X), labels


def split(X, labels, normal, task, contamination, draw):
    """Reference, tested rows and whether each of these is an anomaly, for the class `normal`; `draw` is a numpy generator."""
    nearest(task, TASKS, "task")
    in_range(contamination, 0, 0.5, "contamination")
    own = draw.permutation(np.flatnonzero(labels == normal))
    cut = int(0.8 * len(own))
    means = {c: X[labels == c].mean(0) for c in np.unique(labels)}
    rivals = [c for c in means if c != normal]
    if task == "similar":
        rivals = [min(rivals, key=lambda c: np.linalg.norm(means[c] - means[normal]))]
    other = draw.permutation(np.flatnonzero(np.isin(labels, rivals)))
    added = int(round(contamination * cut / (1 - contamination)))
    strange = other[added:]
    if task == "rare":
        strange = strange[: max(1, round((len(own) - cut) / 9))]
    tested = np.concatenate([own[cut:], strange])
    return X[np.concatenate([own[:cut], other[:added]])], X[tested], np.arange(len(tested)) >= len(own) - cut


def run(seed, progress, *, data, tasks, contaminations, methods, relaxations, classes=None):
    """One seed: a split for each class, task and contamination, and all methods on it.

    Parameters
    ----------
    data : {"digits", "wine", "breast cancer"}
    tasks, contaminations, methods : lists
        Of `TASKS`, of shares in [0, .5], of `gwf.uses.anomaly.METHODS`.
    relaxations : list of float
        For the kept mass, in units of the reference's mean cost.
    classes : list of int, optional
        Normal classes; all by default.

    Returns
    -------
    dict
        "table": task, contamination, class, method, relaxation, AUROC.
    """
    X, labels = load(data)
    classes = np.unique(labels).tolist() if classes is None else classes
    for method in methods:
        nearest(method, METHODS, "method")
    rows, done = [], 0
    for task in tasks:
        for contamination in contaminations:
            for normal in classes:
                draw = rng(seed, f"{data} {task} {contamination} {normal}")
                reference, tested, strange = split(X, labels, normal, task, contamination, draw)
                if data != "digits":
                    centre, unit = reference.mean(0), reference.std(0) + 1e-9
                    reference, tested = (reference - centre) / unit, (tested - centre) / unit
                for method in methods:
                    for relaxation in relaxations if method == "kept_mass" else [None]:
                        settings = {"relaxation": relaxation} if relaxation else {}
                        if method == "iforest":
                            settings = {"random_state": derive(seed, "forest") % 2**32}
                        score = anomaly_scores(tested, reference, method, **settings)
                        rows.append(
                            (data, task, contamination, normal, method, relaxation, roc_auc_score(strange, score))
                        )
                done += 1
                progress(done, len(tasks) * len(contaminations) * len(classes), task=task, contamination=contamination)
    columns = ["data", "task", "contamination", "class", "method", "relaxation", "AUROC"]
    return {"table": pd.DataFrame(rows, columns=columns).round({"AUROC": 5})}
