"""Cases of the official ONNX backend suite, and what it means to pass one."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.backend.test.loader import load_model_tests

KINDS = ("node", "simple", "pytorch-operator", "pytorch-converted")
_PROTOS = {"tensor_type": onnx.TensorProto, "sequence_type": onnx.SequenceProto, "optional_type": onnx.OptionalProto}


@cache
def cases() -> dict[str, Any]:
    """All cases by name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some cases are about overflow
        return _load()


def _load() -> dict[str, Any]:
    return {case.name: case for kind in KINDS for case in load_model_tests(kind=kind)}


def content(case: Any) -> tuple[onnx.ModelProto, list[tuple[list[Any], list[Any]]]]:
    """The model, and (inputs, expected outputs) of each data set."""
    if case.model is not None:
        return case.model, [([_plain(x) for x in ins], [_plain(x) for x in outs]) for ins, outs in case.data_sets]
    folder = Path(case.model_dir)
    model = onnx.load(folder / "model.onnx")
    return model, [_data_set(model, data) for data in sorted(folder.glob("test_data_set*"))]


def _data_set(model: onnx.ModelProto, folder: Path) -> tuple[list[Any], list[Any]]:
    count = len(list(folder.glob("input_*.pb")))
    ins = [_read(folder / f"input_{i}.pb", info) for i, info in enumerate(model.graph.input[:count])]
    return ins, [_read(folder / f"output_{i}.pb", info) for i, info in enumerate(model.graph.output)]


def _read(path: Path, info: onnx.ValueInfoProto) -> Any:
    proto = _PROTOS[info.type.WhichOneof("value")]()
    proto.ParseFromString(path.read_bytes())
    return _plain(proto)


def _plain(x: Any) -> Any:
    if isinstance(x, onnx.TensorProto):
        return numpy_helper.to_array(x)
    if isinstance(x, onnx.SequenceProto):
        return numpy_helper.to_list(x)
    if isinstance(x, onnx.OptionalProto):
        return numpy_helper.to_optional(x)
    return np.asarray(x) if isinstance(x, np.generic) else x


def check(case: Any, answers: Any) -> None:
    """Run a case through `answers(model, inputs)`; an AssertionError says how outputs differ from the expected ones."""
    model, data_sets = content(case)
    for ins, outs in data_sets:
        for got, want in _pairs(answers(model, ins), outs):
            assert (got.shape, got.dtype) == (want.shape, want.dtype)
            wide = "c16" if want.dtype.kind == "c" else "f8"
            tolerances = {"rtol": max(case.rtol, 1e-3), "atol": max(case.atol, 1e-5)}
            np.testing.assert_allclose(got.astype(wide), want.astype(wide), **tolerances)


def _pairs(got: Any, want: list[Any]) -> Iterator[tuple[Any, Any]]:
    """Tensors, those of sequences one by one."""
    assert len(got) >= len(want)
    for g, w in zip(got, want, strict=False):
        if isinstance(w, list):
            assert len(g) == len(w)
            yield from _pairs(g, w)
        else:
            yield np.asarray(g), np.asarray(w)
