"""Constants in blocks that end where the matrix does: where each element lies, and what layouts may say so."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgec.compiler.errors import IRError
from edgec.compiler.ir import Type
from edgec.compiler.layout import contiguous, layout, pack, same_bytes, storage_bytes, unpack
from edgec.compiler.unpadded import BEYOND


@pytest.mark.parametrize("columns", [8, 9, 10, 20, 3])
@pytest.mark.parametrize(("inner", "unit"), [(42, 2), (42, 4), (41, 1), (44, 4), (2, 2), (3, 4)])
def test_where_an_element_of_a_matrix_lies(inner: int, unit: int, columns: int) -> None:
    matrix = np.arange(1, inner * columns + 1, dtype=np.int32).reshape(inner, columns)
    text, stored = f"U{unit}:JK8j4k", inner + -inner % unit
    packed = pack(matrix, text)
    assert packed.size == stored * columns + BEYOND == layout(text, 2).physical(matrix.shape)[0]
    assert storage_bytes(Type("i32", matrix.shape, text)) == packed.nbytes
    assert np.count_nonzero(packed) == matrix.size
    for k in range(inner):
        for j in range(columns):
            block, group = j // 8 * 8, k // 4 * 4
            wide, each = min(8, columns - block), min(4, stored - group)
            at = block * stored + group * wide + (j - block) * each + k - group
            assert packed[at] == matrix[k, j]


def test_whole_blocks_lie_as_they_do_with_padding() -> None:
    w = np.arange(16 * 8 * 9, dtype=np.int32).reshape(16, 8, 3, 3)
    np.testing.assert_array_equal(pack(w, "U4:OHWI8o4i")[:-BEYOND], pack(w, "OHWI8o4i").reshape(-1))
    ragged = pack(w[:11], "U4:OHWI8o4i")[:-BEYOND]
    np.testing.assert_array_equal(ragged[: 8 * 72], pack(w[:8], "OHWI8o4i").reshape(-1))
    np.testing.assert_array_equal(ragged[8 * 72 :], pack(w[8:11], "OHWI3o4i").reshape(-1))


@pytest.mark.parametrize("text", ["U4:JK8j", "U4:JK", "U3:JK8j4k", "U0:JK8j4k", "U4:KJ8j4k", "U4:JK8j2j4k"])
def test_layouts_that_say_nothing_of_the_kind_are_refused(text: str) -> None:
    with pytest.raises(IRError, match="only blocks of the outermost and the innermost axis need no padding"):
        layout(text, 2)


def test_such_constants_do_not_come_back() -> None:
    t: Any = Type("i8", (42, 20), "U2:JK20j4k")
    with pytest.raises(IRError, match="do not come back"):
        unpack(pack(np.zeros((42, 20), np.int8), t.layout), t.layout, t.shape)
    assert not same_bytes(t, "JK20j4k") and same_bytes(t, t.layout) and not contiguous(t, 1, 0, 20)
