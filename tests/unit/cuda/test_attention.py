"""Rows of the GPU for attention give its meaning under emulation, whatever is masked."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
import pytest

from edgec.compiler import interpret
from edgec.compiler import op as ops
from edgec.compiler.ir import Array
from edgec.compiler.registry import Problem
from tests.support.cuda_rows_run import CLOSE, agrees, arrays_for, offers, problem, run, value


def dense(*dims: int) -> tuple[int, ...]:
    return tuple(prod(dims[k + 1 :]) for k in range(len(dims)))


def attention(
    kind: str,
    s: int,
    t: int,
    d: int,
    e: int,
    heads: int = 2,
    batch: int = 1,
    groups: int = 0,
    mask: tuple[int, ...] = (),
    joint: bool = False,
    keys_last: bool = False,
    **attrs: Any,
) -> Problem:
    """`joint`: Q, K and V side by side in one value; `groups` heads of K and V; `mask` broadcasts to [b, h, s, t]."""
    kv = groups or heads
    rep = heads // kv
    if joint:
        row = 3 * heads * d
        inputs = [value(kind, batch, s, row)]
        args = inputs * 3
        attrs |= {n: (k * heads * d, s * row, rep * d, d, row, 1) for k, n in enumerate("qkv")}
    else:
        inputs = [value(kind, batch, s, heads, d)]
        inputs.append(value(kind, batch, kv, d, t) if keys_last else value(kind, batch, t, kv, d))
        inputs.append(value(kind, batch, t, kv, e))
        args = list(inputs)
        attrs["q"] = (0, s * heads * d, rep * d, d, heads * d, 1)
        attrs["k"] = (0, kv * d * t, d * t, 0, 1, t) if keys_last else (0, t * kv * d, d, 0, kv * d, 1)
        attrs["v"] = (0, t * kv * e, e, 0, kv * e, 1)
    if mask:
        inputs.append(value("f32", *mask))
        args.append(inputs[-1])
        mb, mh, ms, mt = (m > 1 and step for m, step in zip(mask, dense(*mask), strict=True))
        attrs["mask"] = (0, mb, rep * mh, mh, ms, mt)
    out = (s * heads * e, rep * e, e, heads * e, 1)
    attrs = {"scale": 0.4, "batch": (batch, kv, rep), "shape": (batch, s, heads * e), "out": out} | attrs
    return problem(ops.build("Edgec.Attention", *args, sizes=(s, t, d, e), **attrs), *inputs)


def with_keys(of: Problem, masked: bool = True) -> list[Array]:
    """Numbers for an attention; some keys are masked, never all of a query."""
    arrays = arrays_for(of)
    if len(of.anchor.args) == 4:
        arrays[-1] = np.where(arrays[-1] > 0.8, np.float32(-np.inf), arrays[-1])
        arrays[-1][..., 0] = 0.5
    return arrays


KINDS = {"f16": "attention_f16_mma__cuda", "f32": "attention_f32_simt__cuda"}
ATTENTIONS: list[dict[str, Any]] = [
    {"s": 33, "t": 33, "d": 64, "e": 64, "joint": True},
    {"s": 16, "t": 128, "d": 32, "e": 32, "mask": (1, 1, 1, 128)},
    {"s": 5, "t": 7, "d": 3, "e": 9, "mask": (1, 2, 5, 7)},
    {"s": 37, "t": 37, "d": 20, "e": 20, "batch": 2, "joint": True, "mask": (2, 1, 37, 37)},
    {"s": 1, "t": 133, "d": 8, "e": 24, "heads": 4, "groups": 2},
    {"s": 9, "t": 1, "d": 1, "e": 1},
    {"s": 19, "t": 50, "d": 16, "e": 40, "batch": 2, "heads": 6, "groups": 3, "mask": (2, 1, 1, 50)},
    {"s": 33, "t": 21, "d": 24, "e": 16, "keys_last": True},
    {"s": 20, "t": 11, "d": 65, "e": 70, "heads": 1},
    {"s": 70, "t": 300, "d": 64, "e": 64, "heads": 1},
    {"s": 18, "t": 40, "d": 128, "e": 136, "heads": 1},
    {"s": 18, "t": 40, "d": 160, "e": 8, "heads": 1},
    {"s": 37, "t": 21, "d": 8, "e": 16, "cap": 1.5},
    {"s": 19, "t": 50, "d": 16, "e": 40, "mask": (1, 2, 19, 50), "cap": 0.7, "zero_masked": 1},
]


@pytest.mark.parametrize("case", ATTENTIONS, ids=lambda c: "-".join(map(str, c.values())))
@pytest.mark.parametrize("kind", KINDS)
def test_attention(kind: str, case: dict[str, Any]) -> None:
    of = attention(kind, **case)
    agrees(of, KINDS[kind], with_keys(of), most=2)


@pytest.mark.parametrize("kind", KINDS)
def test_attention_in_all_tiles(kind: str) -> None:
    from edgec.targets.kernels.cuda.attention.rows import candidates

    of = attention(kind, 39, 150, 64, 64, heads=1, mask=(1, 1, 39, 150))
    arrays = with_keys(of)
    want = interpret.run(of.body, arrays)[0]
    choice = offers(of, KINDS[kind])[0]
    for t in candidates(of, kind == "f16")[::3]:
        config = (("wq", t.wq), ("wk", t.wk), ("rows", t.rows), ("nk", t.nk))
        got = run(of, replace(choice, config=config), arrays)
        np.testing.assert_allclose(got, want, CLOSE[kind], CLOSE[kind], err_msg=str(config))


@pytest.mark.parametrize("kind", KINDS)
def test_attention_does_not_race(kind: str) -> None:
    of = attention(kind, 20, 150, 16, 16, heads=1)
    for choice in offers(of, KINDS[kind])[:2]:
        run(of, choice, with_keys(of), check="race")


@pytest.mark.parametrize("kind", KINDS)
def test_queries_without_a_key(kind: str) -> None:
    """They give NaN, or zeros where that is asked for."""
    for zero_masked in (0, 1):
        of = attention(kind, 21, 40, 8, 8, mask=(1, 1, 21, 40), zero_masked=zero_masked)
        arrays = with_keys(of)
        arrays[3][..., 4, :] = -np.inf
        arrays[0][0, 6] = np.nan
        agrees(of, KINDS[kind], arrays, most=2)


@pytest.mark.parametrize("kind", KINDS)
def test_masks_of_the_most_negative_number(kind: str) -> None:
    """Finite, though all keys have it: they weigh the same."""
    of = attention(kind, 5, 20, 16, 16, mask=(1, 1, 1, 20))
    arrays = with_keys(of)
    arrays[3][...] = -3.4028235e38
    agrees(of, KINDS[kind], arrays, most=2)
