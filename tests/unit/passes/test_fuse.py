"""Fusion: which nodes share a kernel."""

from __future__ import annotations

import pytest

import edgec.compiler.ops  # noqa: F401
from edgec.compiler.ir import Graph
from edgec.compiler.pipeline import run_pipeline
from edgec.compiler.session import Session
from edgec.compiler.target import Target, find_target
from edgec.compiler.text import parse
from edgec.passes.fuse import MOST_NODES

CONV = "{dilations=[1, 1], group=1, pads=[0, 0, 0, 0], strides=[1, 1]} : f32[1, 8, 4, 4]"
HEAD = """graph @g(%x: f32[1, 8, 4, 4]) {
  %w = Const() {data="randn:1"} : f32[8, 8, 1, 1]
  %b = Const() {data="randn:2"} : f32[8]
"""
T = "f32[1, 8, 4, 4]"


def kernels(body: str, options: str = "", target: Target | None = None) -> list[str]:
    """Operators of each kernel, joined by spaces."""
    g = run_pipeline(parse(HEAD + body + "}\n"), f"fuse{options}", Session(verify=3, target=target))
    bodies = [n.attrs["body"] for n in g.nodes() if n.op == "Edgec.Kernel"]
    return [" ".join(n.op for n in b.nodes() if n.op not in ("Input", "Const")) for b in bodies if isinstance(b, Graph)]


def test_activation_joins_its_convolution() -> None:
    assert kernels(f"%c = Conv(%x, %w, %b) {CONV}\n %r = Relu(%c) : {T}\n return %r\n") == ["Conv Relu"]


def test_a_diamond_of_elementwise_nodes_joins_by_dominance() -> None:
    body = f"%c = Conv(%x, %w, %b) {CONV}\n %s = Sigmoid(%c) : {T}\n %m = Mul(%c, %s) : {T}\n return %m\n"
    assert kernels(body) == ["Conv Sigmoid Mul"]


def test_a_residual_add_joins_the_convolution_before_it() -> None:
    body = f"%r = Relu(%x) : {T}\n %c = Conv(%r, %w, %b) {CONV}\n %a = Add(%c, %r) : {T}\n return %a\n"
    assert kernels(body) == ["Relu", "Conv Add"]


def test_a_value_that_is_an_output_ends_its_kernel() -> None:
    body = f"%c = Conv(%x, %w, %b) {CONV}\n %r = Relu(%c) : {T}\n return %c, %r\n"
    assert kernels(body) == ["Conv", "Relu"]


def test_a_value_with_two_heavy_readers_ends_its_kernel() -> None:
    body = f"""%c = Conv(%x, %w, %b) {CONV}
 %r = Relu(%c) : {T}
 %d = Conv(%r, %w, %b) {CONV}
 %a = Add(%d, %r) : {T}
 return %a
"""
    assert kernels(body) == ["Conv Relu", "Conv Add"]


def test_maps_chain_into_their_only_reader() -> None:
    body = f"%r = Relu(%x) : {T}\n %t = Transpose(%r) {{perm=[0, 2, 3, 1]}} : f32[1, 4, 4, 8]\n return %t\n"
    assert kernels(body) == ["Relu Transpose"]


@pytest.mark.parametrize(("mode", "expected"), [("nearest", ["Resize Transpose"]), ("linear", ["Resize", "Transpose"])])
def test_what_blends_keeps_its_own_kernel(mode: str, expected: list[str]) -> None:
    attrs = (
        f'mode="{mode}", coordinate_transformation_mode="asymmetric", scales=[1.0, 1.0, 3.0, 3.0], sizes=[1, 8, 12, 12]'
    )
    body = f"%r = Resize(%x) {{{attrs}}} : f32[1, 8, 12, 12]\n"
    body += " %t = Transpose(%r) {perm=[0, 2, 3, 1]} : f32[1, 12, 12, 8]\n return %t\n"
    assert kernels(body) == expected


def test_a_reshape_is_a_view_and_no_kernel() -> None:
    assert kernels("%r = Reshape(%x) {shape=[1, 128]} : f32[1, 128]\n return %r\n") == []


def test_a_concat_that_can_be_placed_stays_alone() -> None:
    body = f"%r = Relu(%x) : {T}\n %s = Sigmoid(%x) : {T}\n"
    body += " %c = Concat(%r, %s) {axis=1} : f32[1, 16, 4, 4]\n return %c\n"
    assert sorted(kernels(body)) == ["Concat", "Relu", "Sigmoid"]


def test_without_epilogues_each_node_is_a_kernel() -> None:
    body = f"%c = Conv(%x, %w, %b) {CONV}\n %r = Relu(%c) : {T}\n return %r\n"
    assert kernels(body, "{epilogues=false}") == ["Conv", "Relu"]


def test_small_maps_around_a_reshape_are_one_kernel_where_launches_count() -> None:
    body = """%r = Relu(%x) : f32[1, 8, 4, 4]
 %s = Reshape(%r) {shape=[8, 16]} : f32[8, 16]
 %t = Transpose(%s) {perm=[1, 0]} : f32[16, 8]
 %n = Neg(%t) : f32[16, 8]
 return %n
"""
    assert kernels(body, target=find_target("cuda")) == ["Relu Reshape Transpose Neg"]
    assert kernels(body, target=find_target("x86")) == kernels(body) == ["Relu", "Transpose Neg"]
    read_twice = body.replace("return %n", "%a = Abs(%s) : f32[8, 16]\n return %n, %a")
    assert kernels(read_twice, target=find_target("cuda")) == ["Relu", "Transpose Neg", "Abs"]


@pytest.mark.parametrize(("side", "apart"), [(16, True), (4, False)])
def test_many_bytes_are_looked_up_in_a_kernel_of_their_own(side: int, apart: bool) -> None:
    t = f"[1, 8, {side}, {side}]"
    whole = 'zeros=[0], to="u8", zero=3, low=0, high=255'
    body = f"""%s = Const() {{data="randn:3"}} : f32[]
 %t = Const() {{data="zeros"}} : u8[256]
 %i = Resize(%x) {{mode="nearest", sizes=[1, 8, {side}, {side}], scales=[1.0, 1.0, {side / 4}, {side / 4}]}} : f32{t}
 %r = Abs(%i) : f32{t}
 %q = Edgec.Rescale(%r, %s) {{{whole}}} : u8{t}
 %f = Edgec.Table(%q, %t) : u8{t}
 %m = Transpose(%f) {{perm=[0, 2, 3, 1]}} : u8[1, {side}, {side}, 8]
 return %m
"""
    together = ["Resize Abs Edgec.Rescale Edgec.Table Transpose"]
    assert kernels(body) == kernels(body, target=find_target("rpi5")) == together
    in_parts = ["Resize Abs Edgec.Rescale", "Edgec.Table", "Transpose"]
    assert kernels(body, target=find_target("x86")) == (in_parts if apart else together)


def long_chain(first: str) -> str:
    """The operator, then three hundred functions of its result, one after the other."""
    lines = [f"%f0 = {first}"] + [f"%f{k} = {'Sin' if k % 2 else 'Abs'}(%f{k - 1}) : {T}" for k in range(1, 301)]
    return "\n".join([*lines, "return %f300\n"])


@pytest.mark.parametrize("first", [f"Relu(%x) : {T}", f"Conv(%x, %w, %b) {CONV}"])
def test_a_long_chain_is_several_kernels(first: str) -> None:
    made = [ops.split() for ops in kernels(long_chain(first))]
    assert sum(map(len, made)) == 301
    assert len(made) == 5
    assert max(map(len, made)) == MOST_NODES
