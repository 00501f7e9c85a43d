"""What would depend on the padding of a value whose size depends on data is refused, by name and reason."""

from __future__ import annotations

import numpy as np
import pytest

from edgec.compiler.errors import UnsupportedModel
from edgec.compiler.importer import import_model
from tests.support.counts import X, model, whole

REFUSED = [
    ("y = EyeLike(r)", "argument 'r': its size depends on data .result of NonZero 'n'."),
    ("y = Unique(r) axis=1", "it is not along that axis"),
    ("y = Resize(r, none, none, [7, 5])", "end the model at 'r' and do the rest in your program"),
    ("y = Add(r, x4)", "and 'x4' has 4 entries there"),
    ("i = NonZero(x4) ; j = Gather(i, 0) axis=0 ; k = Gather(x4, j) axis=0 ; y = Add(r, k)", "which may differ"),
    ("t = Unsqueeze(v, [1]) ; y = Squeeze(t)", "the axes to remove must be named"),
    ("t = Transpose(r) ; y = Reshape(t, [-1])", "its new shape is -1"),
    ("y = Reshape(r, [20, 5])", "its new shape is 20x5"),
    ("y = Reshape(x4, s)", "is reshaped to nx5, which depends on data"),
    ("t = Transpose(r) ; y = Flatten(t) axis=2", "axes before it are merged"),
    ("y = Tile(r, [2, 1])", "it is repeated along that axis"),
    ("y = Pad(r, [1, 0, 0, 0]) mode=edge", "it is cut or mirrored along that axis"),
    ("y = Pad(r, [0, 0, -1, 0])", "it is cut or mirrored along that axis"),
    ("y, z = Split(r, [10, 10]) axis=0", "it is split along that axis"),
    ("y = Slice(r, [-2], [9], [0])", "cut from -2 in steps of 1"),
    ("y = Slice(r, [0], [9], [0], [2])", "in steps of 2"),
    ("t = Pad(x, [0, 0, 16, 0]) ; y = Concat(r, t) axis=1", "and 't' may have another size"),
    ("y = Expand(r, [20, 5])", "it is expanded to 20x5"),
    ("y = Expand(x4, s)", "is expanded to nx5, which depends on data"),
    ("y = ReduceMean(n, [1])", "it is reduced along that axis"),
    ("y = ArgMax(r) axis=0 select_last_index=1", "the last of equals is looked for"),
    ("y = Hardmax(r) axis=0", "its greatest element is looked for"),
    ("y = LayerNormalization(r, one) axis=0", "it is summed along that axis"),
    ("t = Transpose(r) ; y = MatMul(t, w205)", "it is summed along that axis"),
    ("y = Gemm(r, w53, w203)", "has 20 entries there"),
    ("t = Transpose(r) ; u = Unsqueeze(t, [1]) ; y = MaxPool(u) kernel_shape=1", "it is not the batch"),
    ("y = QuantizeLinear(r, w20) axis=0", "there is a scale for each entry"),
    ("i = Gather(n, 1) axis=0 ; t = Transpose(r) ; y = Gather(t, i) axis=0", "two axes of the result would"),
    (
        "box = Slice(r, [0], [4], [1]) ; y = RoiAlign(image, box, zeros)",
        "and that of its other arguments is not the same",
    ),
    ("t = Transpose(r) ; q = Slice(p, [0], [1], [1]) ; y = GatherND(t, q)", "argument 't': its size depends on data"),
    ("y = GatherElements(x4, p) axis=1", "and 'x4' has 4 entries there"),
    ("y = ScatterND(r, p, v)", "argument 'r': its size depends on data"),
    ("y = ScatterND(x, [[0, 1]], v)", "argument 'v': its size depends on data"),
    ("y = Compress(r, w5b) axis=1", "the number of those selected would too"),
    ("s2 = Shape(p) ; t = Concat(s2, s) axis=0 ; y = ConstantOfShape(t)", "several sizes of its shape nx2xnx5"),
    ("t = Squeeze(cnt) ; y = Range(1, t, 1)", "expected a range from 0 in steps of 1"),
]
OTHERS = {
    "image": np.zeros((1, 1, 4, 5), np.float32),
    "zeros": np.zeros(20, np.int64),
    "x4": np.zeros((4, 5), np.float32),
    "w205": np.zeros((20, 5), np.float32),
    "w203": np.zeros((20, 3), np.float32),
    "w53": np.zeros((5, 3), np.float32),
    "w20": np.ones(20, np.float32),
    "one": np.ones((20, 5), np.float32),
    "w5b": np.ones(5, np.bool_),
}


@pytest.mark.parametrize(("line", "why"), REFUSED)
def test_what_would_depend_on_padding_is_refused(line: str, why: str) -> None:
    feeds = {"x": X} | {name: value for name, value in OTHERS.items() if name in line}
    text = whole("s = Shape(r) ; cnt = Shape(rows) ; " + line)
    with pytest.raises(UnsupportedModel, match=why) as caught:
        import_model(model(text, feeds, "y"))
    assert not any(entry.needs_value for entry in caught.value.entries)
