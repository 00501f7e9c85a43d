"""The example's images as the network takes them: what `edgec compile --quantize int8` reads numbers' ranges from."""

import re
from pathlib import Path

import numpy as np

SAMPLES = Path(__file__).resolve().parents[1] / "digits" / "samples.h"


def images():
    for row in re.findall(r"\{((?:\d+, ){63}\d+)\}", SAMPLES.read_text()):
        yield np.array(row.split(", "), np.float32).reshape(1, 1, 8, 8) / 16
