"""Inputs of a quantized model as bytes: the same answers for what a byte can say, or a reason why not."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from edgec.compiler.calibration.request import SETTING, Request
from edgec.compiler.errors import EdgecError
from edgec.compiler.importer import import_model
from edgec.compiler.interpret import interpret
from edgec.compiler.ir import Graph
from edgec.compiler.pipeline import run_pipeline
from edgec.compiler.session import Session
from edgec.compiler.text_parse import parse
from tests.support.float_models import data, head, residual

SPEC = "canonicalize, fold, quantize, byte-inputs"


def passed(model: onnx.ModelProto, spec: str = SPEC) -> tuple[Graph, Session]:
    session = Session(settings={SETTING: Request(data())})
    return run_pipeline(import_model(model), spec, session), session


@pytest.mark.parametrize("model", [residual(), head()], ids=["residual", "head"])
def test_bytes_answer_as_the_floats_that_they_stand_for(model: onnx.ModelProto) -> None:
    whole, _ = passed(model, "canonicalize, fold, quantize")
    graph, session = passed(model)
    (x,) = graph.inputs
    assert x.type.dtype == "u8" and x.name == "x" and x.shape == whole.inputs[0].shape
    (node,) = [n for n in graph.nodes() if n.op == "DequantizeLinear" and n.args[0] == x]
    scale, zero = (np.asarray(interpret(Graph("c", (), (a,), ("c",)), {})["c"]) for a in node.args[1:])
    sent = np.random.default_rng(3).integers(0, 256, x.shape, dtype=np.uint8)
    real = ((sent.astype(np.float32) - np.float32(zero)) * scale).astype(np.float32)
    np.testing.assert_array_equal(interpret(graph, {"x": sent})["y"], interpret(whole, {"x": real})["y"])
    assert any("input 'x' takes u8: a byte stands for (byte - " in note for note in session.notes)


READ = """graph @g(%x: f32[1, 8]) {
  %s = Const() {data=0.5} : f32[]
  %z = Const() {data=3} : u8[]
  %t = Const() {data=0.25} : f32[]
  %q = QuantizeLinear(%x, %s, %z) : u8[1, 8]
  %r = MORE
  return %q, %r
}"""


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ("Exp(%x) : f32[1, 8]", "Exp reads it in f32"),
        ("QuantizeLinear(%x, %t, %z) : u8[1, 8]", "its readers have scales of their own"),
    ],
)
def test_an_input_that_others_read_stays(more: str, why: str) -> None:
    session = Session()
    graph = run_pipeline(parse(READ.replace("MORE", more)), "byte-inputs", session)
    assert graph.inputs[0].type.dtype == "f32"
    assert session.notes == [f"byte-inputs: input 'x' stays f32: {why}"]


def test_a_float_model_keeps_its_inputs() -> None:
    graph, session = passed(residual(), "canonicalize, fold, byte-inputs")
    assert graph.inputs[0].type.dtype == "f32"
    assert any("input 'x' stays f32: Conv reads it in f32" in note for note in session.notes)


def test_it_comes_behind_quantize() -> None:
    with pytest.raises(EdgecError, match="pass 'byte-inputs' must come after 'quantize'"):
        run_pipeline(import_model(residual()), "byte-inputs, quantize", Session())


def test_no_other_pass_changes_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    from edgec.compiler.pipeline import PASSES, find_pass

    row: Any = find_pass("byte-inputs")
    monkeypatch.setitem(PASSES, "byte-inputs", replace(row, inputs=False))
    with pytest.raises(EdgecError, match="the inputs changed from"):
        passed(residual())
