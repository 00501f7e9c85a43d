"""Constants without their zeros: what is stored, in which order, and which texts name such a layout."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgec.compiler.errors import IRError
from edgec.compiler.ir import Type
from edgec.compiler.layout import layout, pack, physical_shape, storage_bytes, unpack
from edgec.compiler.sparse import SparseForm, sparse_form
from edgec.compiler.text import parse, show


def sections(form: SparseForm, packed: Any, shape: tuple[int, ...]) -> tuple[Any, Any, Any]:
    """Values, starts and places of a packed constant."""
    raw, at, to = packed.tobytes(), form.starts_at(), form.index_at(shape)
    starts = np.frombuffer(raw[at:to], np.int32)
    return np.frombuffer(raw[:at], packed.dtype), starts, np.frombuffer(raw[to : to + 2 * form.count], np.uint16)


def test_single_weights_lie_row_by_row() -> None:
    array = np.array([[0, 2, 0, 3], [0, 0, 0, 0], [4, 0, 0, 0]], np.float32).reshape(3, 4, 1, 1)
    form = sparse_form(array, "OIHW", 1)
    assert str(form) == "S1x1k4p1n3:OIHW"
    values, starts, index = sections(form, pack(array, str(form)), array.shape)
    assert values.tolist() == [2, 3, 4] and starts.tolist() == [0, 2, 2, 3] and index.tolist() == [1, 3, 0]


def test_rows_are_filled_up_and_slices_follow_each_other() -> None:
    array = np.array([[1, 2, 0, 3], [0, 0, 5, 0]], np.float32).reshape(2, 4, 1, 1)
    form = sparse_form(array, "OIHW", 1, 1, part=2, pad=2)
    values, starts, index = sections(form, pack(array, str(form)), array.shape)
    assert values.tolist() == [1, 2, 3, 0, 5, 0]
    assert starts.tolist() == [0, 2, 2, 4, 6]
    assert index.tolist() == [0, 1, 1, 1, 0, 0]


def test_blocks_of_outputs_and_inputs() -> None:
    array = np.zeros((5, 6), np.int8)  # [inputs, outputs]
    array[4, 5] = 7
    form = sparse_form(array, "KJ", 4, 4)
    assert form.count == 1
    values, starts, index = sections(form, pack(array, str(form)), array.shape)
    want = np.zeros((4, 4), np.int8)
    want[1, 0] = 7
    assert values.tolist() == want.reshape(-1).tolist() and starts.tolist() == [0, 0, 1] and index.tolist() == [1]


@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
def test_the_size_is_known_from_the_text(share: float) -> None:
    rng = np.random.default_rng(1)
    array = rng.standard_normal((20, 33, 1, 1)).astype(np.float32) * (rng.random((20, 33, 1, 1)) < share)
    text = str(sparse_form(array, "OIHW", 16))
    packed, t = pack(array, text), Type("f32", array.shape, text)
    assert packed.shape == physical_shape(t) and packed.nbytes == storage_bytes(t)
    with pytest.raises(IRError, match="do not come back"):
        unpack(packed, text, array.shape)


def test_the_layout_reads_back_from_the_text_form() -> None:
    text = """graph @g(%x: f32[1, 4, 2, 2]) {
  %w = Const() {data="randn:1"} : f32[3, 4, 1, 1]@S1x1k4p1n12:OIHW
  %y = Conv(%x, %w) {} : f32[1, 3, 2, 2]
  return %y
}
"""
    assert "S1x1k4p1n12:OIHW" in show(parse(text))


def test_a_text_that_fits_another_constant_is_refused() -> None:
    array = np.ones((4, 4), np.float32)
    with pytest.raises(IRError, match="does not fit a constant with 16 such blocks"):
        pack(array, "S1x1k4p1n3:KJ")
    for text in ("S1x0k4p1n3:KJ", "S1x1k4p2n3:KJ", "S1x1k4p1n3:JK"):
        with pytest.raises(IRError, match="names no form of blocks"):
            layout(text, 2)
    with pytest.raises(IRError, match="no matrix that can be compressed"):
        sparse_form(np.ones((4, 4, 3, 3), np.float32), "OIHW", 1)
