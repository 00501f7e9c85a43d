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
SMALL = 64  # rows of a triangle up to which it is inverted as any matrix is

# (first column, one after the last, the weights as they are by now, the inverse's factor): the columns of a block are
# settled in order, those behind it are not made up for yet.
Settle = Callable[[int, int, Tensor, Tensor], Tensor]


def inverse_factor(own: Tensor) -> Tensor:
    """The upper Cholesky factor of a second moment's inverse; its diagonal is what columns cost once those before them
    are settled.

    With rows and columns in opposite order the lower factor of the moment is an upper triangle U with own = U U': what
    is looked for is the inverse of U.
    """
    upper = np.linalg.cholesky(own[..., ::-1, ::-1])[..., ::-1, ::-1]
    return _inverse(np.ascontiguousarray(upper))


def _inverse(upper: Tensor) -> Tensor:
    """Of an upper triangle, by halves."""
    size = upper.shape[-1]
    if size <= SMALL:
        return np.triu(np.linalg.inv(upper))
    half = size // 2
    one, other = _inverse(upper[..., :half, :half]), _inverse(upper[..., half:, half:])
    made = np.zeros_like(upper)
    made[..., :half, :half], made[..., half:, half:] = one, other
    made[..., :half, half:] = -(one @ upper[..., :half, half:]) @ other
    return made


def compensated(aim: Tensor, own: Tensor, settle: Settle, block: int = BLOCK) -> Tensor:
    """Weights [..., outputs, inputs] whose products with inputs of second moment `own` are near those of `aim`.

    `settle(k, end, w, upper)` says what column k of the block up to `end` becomes.
    """
    upper = inverse_factor(own)
    columns = np.array(np.moveaxis(aim, -1, 0), order="C")  # one by one they lie together, [inputs, ..., outputs]
    w, made = np.moveaxis(columns, 0, -1), np.zeros_like(columns)
    for start in range(0, len(columns), block):
        end = min(start + block, len(columns))
        errors = np.zeros((end - start, *columns.shape[1:]))
        for k in range(start, end):
            made[k] = settle(k, end, w, upper)
            errors[k - start] = (columns[k] - made[k]) / upper[..., k, k, None]
            columns[k + 1 : end] -= np.moveaxis(upper[..., k, k + 1 : end, None], -2, 0) * errors[k - start]
        w[..., end:] -= np.moveaxis(errors, 0, -1) @ upper[..., start:end, end:]
    return np.asarray(np.moveaxis(made, 0, -1))
