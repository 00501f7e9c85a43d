"""Settles weights column by column, each change made up for by the columns that follow.

The sweep of GPTQ (Frantar et al., "GPTQ: accurate post-training quantization for generative pre-trained transformers",
2023) and SparseGPT (Frantar and Alistarh, "SparseGPT: massive language models can be accurately pruned in one-shot",
2023): Optimal Brain Surgeon in one order for all rows. What a column becomes is the caller's affair.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..ops.common import Tensor

BLOCK = 128

# (first column, one after the last, the weights as they are by now, the inverse's factor): the columns of a block are
# settled in order, those behind it are not made up for yet.
Settle = Callable[[int, int, Tensor, Tensor], Tensor]


def inverse_factor(own: Tensor) -> Tensor:
    """The upper Cholesky factor of a second moment's inverse; its diagonal is what columns cost once those before them
    are settled."""
    return np.asarray(np.linalg.cholesky(np.linalg.inv(own)).T)


def compensated(aim: Tensor, own: Tensor, settle: Settle, block: int = BLOCK) -> Tensor:
    """Weights [outputs, inputs] whose products with inputs of second moment `own` are near those of `aim`.

    `settle(k, end, w, upper)` says what column k of the block up to `end` becomes.
    """
    w, upper = aim.copy(), inverse_factor(own)
    made = np.zeros_like(w)
    for start in range(0, w.shape[1], block):
        end = min(start + block, w.shape[1])
        errors = np.zeros((w.shape[0], end - start))
        for k in range(start, end):
            made[:, k] = settle(k, end, w, upper)
            errors[:, k - start] = (w[:, k] - made[:, k]) / upper[k, k]
            w[:, k + 1 : end] -= errors[:, k - start, None] * upper[k, k + 1 : end]
        w[:, end:] -= errors @ upper[start:end, end:]
    return made
