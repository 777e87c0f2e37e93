"""pytest --nbval compares the stored text of notebooks; with this it compares the stored pictures too."""

import base64
import io
import os

import numpy as np
from matplotlib.image import imread
from nbval.plugin import IPyNbCell

os.environ.setdefault("GWF_PROGRESS", os.devnull)  # else the bars of progress would count as output of a cell

#: A picture is current if at most this share of its pixels is another: edges of letters and lines differ between machines,
#: and what experiments train does too.
SHARE, SHARE_OF_EXPERIMENTS = 0.01, 0.1
#: Two values of a colour, from 0 to 1, that an eye tells apart.
APART = 0.15
#: Pixels by which the cut of a picture may differ, as it follows the extent of its labels.
CUT = 3


def pictures(outputs):
    """The pictures among the outputs of a cell, as arrays (height, width, 4)."""
    coded = [output["data"]["image/png"] for output in outputs if "image/png" in output.get("data", {})]
    return [imread(io.BytesIO(base64.b64decode(text))) for text in coded]


def share_of_others(one, other):
    """Share of the pixels in which two pictures differ; 1 for pictures of different size."""
    sizes = np.array([one.shape[:2], other.shape[:2]])
    if np.ptp(sizes, axis=0).max() > CUT:
        return 1.0
    height, width = sizes.min(0)
    return float((np.abs(one[:height, :width] - other[:height, :width]).max(-1) > APART).mean())


def compare_outputs(self, test, ref, skip_compare=None, text=IPyNbCell.compare_outputs):
    """nbval's comparison, and that of the pictures, one by one."""
    if not text(self, test, ref, skip_compare):
        return False
    shares = [share_of_others(new, stored) for new, stored in zip(pictures(test), pictures(ref), strict=True)]
    most = SHARE_OF_EXPERIMENTS if self.parent.path.parent.name == "experiments" else SHARE
    if max(shares, default=0.0) > most:
        told = ", ".join(f"{share:.1%}" for share in shares)
        self.comparison_traceback.append(f"stored pictures are stale: {told} of their pixels differ; make notebooks")
        return False
    return True


IPyNbCell.compare_outputs = compare_outputs
