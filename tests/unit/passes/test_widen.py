"""Models of f16 and bf16 have the kernels of f32, round their results, and can be made smaller like those of f32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import edgec
from edgec.compiler.calibration.request import SETTING, Request
from edgec.compiler.exporter import export_model
from edgec.compiler.importer import import_model
from edgec.compiler.interpret import run
from edgec.compiler.macs import macs
from edgec.compiler.op import OPS
from edgec.compiler.pipeline import run_pipeline
from edgec.compiler.session import Session
from edgec.compiler.target import find_target
from edgec.compiler.text_parse import parse

EPSILON = {"f16": 2.0**-10, "bf16": 2.0**-7}
NUMPY = {"f16": np.float16, "bf16": ml_dtypes.bfloat16}
TEXT = """graph @blocks(%x: f16[1, 8, 12, 12]) {
  %w = Const() {data="randn:1"} : f16[32, 8, 3, 3]
  %b = Const() {data="randn:2"} : f16[32]
  %v = Const() {data="randn:3"} : f16[16, 32, 1, 1]
  %a = Const() {data="randn:4"} : f16[16]
  %c = Conv(%x, %w, %b) {pads=[1, 1, 1, 1]} : f16[1, 32, 12, 12]
  %s = Sigmoid(%c) : f16[1, 32, 12, 12]
  %m = Mul(%c, %s) : f16[1, 32, 12, 12]
  %p = MaxPool(%m) {kernel_shape=[2, 2], strides=[2, 2]} : f16[1, 32, 6, 6]
  %d = Conv(%p, %v, %a) : f16[1, 16, 6, 6]
  %r = Relu(%d) : f16[1, 16, 6, 6]
  return %r
}
"""


PRODUCTS = """graph @blocks(%x: bf16[24, 40]) {
  %w = Const() {data="randn:1"} : bf16[40, 48]
  %b = Const() {data="randn:2"} : bf16[48]
  %c = MatMul(%x, %w) : bf16[24, 48]
  %a = Add(%c, %b) : bf16[24, 48]
  %r = Tanh(%a) : bf16[24, 48]
  return %r
}
"""


def _noise(*shape: int, kind: str = "f16") -> Any:
    return np.random.default_rng(0).standard_normal(shape).astype(NUMPY[kind])


@pytest.mark.parametrize(("kind", "text", "shape"), [("f16", TEXT, (1, 8, 12, 12)), ("bf16", PRODUCTS, (24, 40))])
@pytest.mark.parametrize("level", ["host", "x86"])
def test_kernels_are_those_of_f32_and_results_are_rounded(
    tmp_path: Path, kind: str, text: str, shape: tuple[int, ...], level: str
) -> None:
    graph = parse(text)
    bundle = edgec.compile(export_model(graph), target=level, out=tmp_path, name="blocks")
    kernels = [step["kernel"] for step in bundle.steps]
    assert not {k for k in kernels if k.startswith("generic") and k != "generic_map"}, kernels
    x = _noise(*shape, kind=kind)
    (want,) = run(graph, [x])
    got = edgec.load(tmp_path).run({"x": x})["r"]
    assert got.dtype == want.dtype
    error = np.abs(got.astype("f4") - want.astype("f4")).max() / np.abs(want.astype("f4")).max()
    assert error <= 2 * EPSILON[kind]


def test_a_gpu_and_the_graphs_without_products_keep_their_type() -> None:
    session = Session(target=find_target("cuda"))
    kinds = {t.dtype for n in run_pipeline(parse(TEXT), "widen", session).nodes() for t in n.types}
    assert kinds == {"f16"}


def test_channels_of_an_f16_model_go_and_none_of_what_is_left_is_rounded() -> None:
    graph = import_model(export_model(parse(TEXT)), notice=lambda text: None)
    session = Session(settings={SETTING: Request({"x": _noise(32, 8, 12, 12)})})
    pruned = run_pipeline(graph, "canonicalize, fold, prune{channels=0.5}", session)
    assert macs(pruned) < 0.6 * macs(graph)
    heavy = [n.types[0].dtype for n in pruned.nodes() if OPS[n.op].kind in ("contract", "window")]
    casts = [n.attrs["to"] for n in pruned.nodes() if n.op == "Cast"]
    assert (set(heavy), casts) == ({"f32"}, ["f32", "f16"])
