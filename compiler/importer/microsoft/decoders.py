"""Converters of what language models are exported with, domain com.microsoft: grouped queries, rotations, tables.

They are as ONNX Runtime's ContribOperators.md states them. Sizes are fixed when a model is compiled: keys and values of
the past fill a buffer of so many steps, and a number that is known when the model runs says how many of them count.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ...dtypes import dtype
from ...ir import Value
from ...layout import joined_bits
from ..context import Context
from ..table import Refused, Result, converts
from .attentions import Heads, attended

NEVER = -np.inf  # what is added to a score that weighs nothing


class Turn(NamedTuple):
    """Cosines and sines [batch, steps, 1, half], and which elements of a head they turn together."""

    cos: Value
    sin: Value
    interleaved: bool


@converts("com.microsoft.RotaryEmbedding")
def rotary(c: Context) -> Result:
    """X [batch, steps, heads * size] or [batch, heads, steps, size]; position_ids [1], from which steps count, or
    [batch, steps]; tables of cosines and sines [positions, half of what is turned of a head]."""
    x, cos = c.arg(0), c.arg(2)
    if c.attr("is_packed_batching", 0) or float(c.attr("scale", 1.0)) != 1:
        raise Refused("it packs a ragged batch, or scales", "expected is_packed_batching of 0 and a scale of 1")
    turned = int(c.attr("rotary_embedding_dim", 0)) or 2 * cos.shape[1]
    if len(x.shape) == 4:
        split_up = c.transpose(x, (0, 2, 1, 3))
    else:
        heads = int(c.attr("num_heads", 0)) or x.shape[2] // turned
        split_up = c.reshape(x, (*x.shape[:2], heads, x.shape[2] // heads))
    steps = split_up.shape[1]
    position = c.arg(1)
    if position.type.size == 1 and steps * x.shape[0] > 1:
        places = c.const(np.arange(steps).reshape(1, steps), like=position)
        position = c.emit("Add", c.reshape(position, (1, 1)), places)
    y = _turned(c, split_up, _turn(c, position, 2, split_up.shape[:2]))
    return c.transpose(y, (0, 2, 1, 3)) if len(x.shape) == 4 else c.reshape(y, x.shape)


def _turn(c: Context, position: Value, cache: int, shape: tuple[int, ...]) -> Turn:
    """Rows of the tables, arguments `cache` and the next, for positions [batch or 1, steps]."""
    key = "interleaved" if c.op.endswith("RotaryEmbedding") else "rotary_interleaved"
    position = c.reshape(position, (position.type.size // shape[1], shape[1]))
    rows = [c.emit("Gather", c.arg(k), position, axis=0) for k in (cache, cache + 1)]
    cos, sin = (c.reshape(r, (r.shape[0], r.shape[1], 1, r.shape[2])) for r in rows)
    return Turn(cos, sin, bool(c.attr(key, 0)))


def _turned(c: Context, x: Value, turn: Turn) -> Value:
    """[batch, steps, heads, size] with the first elements of each head turned, by pairs or by halves."""
    half = turn.cos.shape[3]
    rest = c.slice(x, 3, 2 * half, x.shape[3]) if 2 * half < x.shape[3] else None
    x = c.slice(x, 3, 0, 2 * half)
    if turn.interleaved:
        pairs = c.reshape(x, (*x.shape[:3], half, 2))
        one, other = (c.reshape(c.slice(pairs, 4, k, k + 1), (*x.shape[:3], half)) for k in (0, 1))
    else:
        one, other = c.slice(x, 3, 0, half), c.slice(x, 3, half, 2 * half)
    first = c.emit("Sub", c.emit("Mul", one, turn.cos), c.emit("Mul", other, turn.sin))
    second = c.emit("Add", c.emit("Mul", other, turn.cos), c.emit("Mul", one, turn.sin))
    if turn.interleaved:
        both = [c.reshape(v, (*v.shape, 1)) for v in (first, second)]
        y = c.reshape(c.emit("Concat", *both, axis=4), x.shape)
    else:
        y = c.emit("Concat", first, second, axis=3)
    return y if rest is None else c.emit("Concat", y, rest, axis=3)


@converts("com.microsoft.GroupQueryAttention")
def grouped_query_attention(c: Context) -> Result:
    """query [batch, steps, heads * size], key and value [batch, steps, kv_heads * size], or all three side by side in
    query; past_key and past_value [batch, kv_heads, room, size], seqlens_k [batch]: how many keys count in all, less
    one, total_sequence_length, cos_cache, sin_cache, position_ids, attention_bias.

    Present keys and values have `max(room, total)` steps; behind those that count are zeros. Where all keys are new,
    some of a batch may count fewer: queries behind those see what counts.
    """
    if any(map(c.has, range(11, len(c.args)))) or c.attr("smooth_softmax", 0) or c.wants(3):
        raise Refused("it has sinks, norms or bytes in its cache", "expected arguments up to attention_bias")
    if c.attr("sliding_window_cache", 0):
        raise Refused("its cache slides", "expected sliding_window_cache of 0")
    q, k, v = _projections(c)
    batch, steps = q.shape[:2]
    total = int(c.array(6, "total_sequence_length").reshape(-1)[0])
    counted = c.reshape(c.cast(c.arg(5), "i32"), (batch, 1))
    before = c.const(np.full((batch, 1), 1 - steps, np.int32))  # of the keys that count, those in front of the new
    first = c.const(np.zeros((batch, 1), np.int32)) if steps == total else c.emit("Add", counted, before)
    places = c.emit("Add", first, c.const(np.arange(steps, dtype=np.int32).reshape(1, steps)))
    if c.attr("do_rotary", 0):
        turn = _turn(c, c.arg(9) if c.has(9) else places, 7, (batch, steps))
        q, k = _turned(c, q, turn), _turned(c, k, turn)
    q, k, v = (c.transpose(x, (0, 2, 1, 3)) for x in (q, k, v))
    k, v = (_cached(c, new, 3 + i, first, total) for i, new in enumerate((k, v)))
    added = [_seen(c, places, counted if steps == total else None, k.shape[2], q.type.dtype)]
    if c.has(10):
        bias = c.arg(10)
        room = k.shape[2] - bias.shape[3]
        added.append(c.emit("Pad", bias, pads=(0,) * 7 + (room,)) if room else bias)
    group = q.shape[1] // k.shape[1]
    y = attended(c, Heads(q, _repeated(c, k, group), _repeated(c, v, group)), added, float(c.attr("softcap", 0.0)))
    return y, k, v


def _projections(c: Context) -> list[Value]:
    """Queries, keys and values [batch, steps, heads, size]."""
    heads, groups = int(c.attr("num_heads")), int(c.attr("kv_num_heads"))
    x = c.arg(0)
    if c.has(1):
        parts = [x, c.arg(1), c.arg(2)]
    else:
        size = x.shape[2] // (heads + 2 * groups)
        ends = (heads * size, (heads + groups) * size, x.shape[2])
        parts = [c.slice(x, 2, start, end) for start, end in zip((0, *ends), ends, strict=False)]
    if any(len(p.shape) != 3 for p in parts):
        raise Refused(f"its arguments are {', '.join(str(v.type) for v in parts)}", "expected three axes each")
    counts = (heads, groups, groups)
    return [c.reshape(p, (*p.shape[:2], n, p.shape[2] // n)) for p, n in zip(parts, counts, strict=True)]


def _cached(c: Context, new: Value, past: int, first: Value, total: int) -> Value:
    """The past up to place `first` [batch, 1], with new keys or values [batch, kv_heads, steps, size] behind it."""
    batch, heads, steps, size = new.shape
    held = c.arg(past) if c.has(past) else None
    have = 0 if held is None else held.shape[2]
    room = max(total, have)

    def behind(front: Value, count: int) -> Value:
        return c.emit("Concat", front, c.const(np.zeros((batch, heads, count, size)), like=new), axis=2)

    if steps == total:
        return behind(new, room - steps) if room > steps else new
    if held is not None and have:
        places = c.const(np.arange(have, dtype=np.int32).reshape(1, 1, have, 1))
        old = c.emit("Less", places, c.reshape(first, (batch, 1, 1, 1)))
        held = c.emit("Where", old, held, c.const(0.0, like=new))
        held = behind(held, room - have) if room > have else held
    else:
        held = c.const(np.zeros((batch, heads, room, size)), like=new)
    place = c.cast(c.reshape(first, (batch,)), "i64")
    return c.emit("TensorScatter", held, new, place, axis=2, mode="linear")


def _seen(c: Context, places: Value, last: Value | None, keys: int, kind: str) -> Value:
    """What is added to scores: nothing for the keys that a query sees, the last of them itself or `last` [batch, 1]."""
    batch, steps = places.shape
    key = c.const(np.arange(keys, dtype=np.int32).reshape(1, 1, 1, keys))
    query = c.reshape(places, (batch, 1, steps, 1))
    if not c.attr("causal", 1):
        query = c.slice(query, 2, steps - 1, steps)
    end = query if last is None else c.emit("Min", query, c.reshape(last, (batch, 1, 1, 1)))
    hidden = c.emit("Greater", key, end)
    window = int(c.attr("local_window_size", -1))
    if window >= 0:
        begin = c.emit("Sub", query, c.const(np.int32(window)))
        if last is not None:  # a query behind those that count sees one key at least: no sum of nothing
            begin = c.emit("Min", begin, c.emit("Sub", end, c.const(np.int32(1))))
        hidden = c.emit("Or", hidden, c.emit("LessOrEqual", key, begin))
    return c.emit("Where", hidden, c.const(NEVER, like=kind), c.const(0.0, like=kind))


def _repeated(c: Context, x: Value, group: int) -> Value:
    """Keys or values once for each query that shares them."""
    if group == 1:
        return x
    batch, heads, keys, size = x.shape
    wide = c.emit("Expand", c.reshape(x, (batch, heads, 1, keys, size)), shape=(batch, heads, group, keys, size))
    return c.reshape(wide, (batch, heads * group, keys, size))


@converts("com.microsoft.GatherBlockQuantized")
def rows_of_few_bits(c: Context) -> Result:
    """Rows of a table of few bits, with a scale per block along its last axis: data, indices, scales, zero points.
    Codes stay packed in bytes; rows are widened once they are taken."""
    data, scales = c.array(0, "data"), c.arg(2)
    kind = c.dtype
    bits = int(c.attr("bits", 4)) if dtype(kind).bits == 8 else dtype(kind).bits
    columns = data.shape[-1] * (dtype(kind).bits // bits if dtype(kind).bits == 8 else 1)
    if data.ndim != 2 or int(c.attr("gather_axis", 0)) % 2 or c.in_rank(int(c.attr("quantize_axis", 1)), 2) != 1:
        raise Refused("it does not take rows of a matrix in blocks of their elements", "expected axes 0 and 1")
    if not dtype(kind).is_whole or bits not in (2, 4, 8) or (kind[0] == "i" and bits == 8):
        raise Refused(f"its data are {kind} of {bits} bits", "expected 2, 4 or 8 bits, packed in u8, or u4 or i4")
    packed = data if dtype(kind).bits == 8 else _packed(data, bits)
    rows = _unpacked(c, c.emit("Gather", c.const(packed), c.arg(1), axis=0), bits, columns)
    scale = c.emit("Gather", scales, c.arg(1), axis=0)
    half = c.const(np.asarray(1 << (bits - 1), np.uint8))  # signed codes are moved by half of their range
    zero = half
    if c.has(3):
        given = c.array(3, "zero points")
        loose = given if dtype(kind).bits == 8 else _packed(given, bits)
        taken = _unpacked(c, c.emit("Gather", c.const(loose), c.arg(1), axis=0), bits, scales.shape[1])
        zero = taken
    return c.emit("DequantizeLinear", rows, scale, zero, axis=len(rows.shape) - 1, block=int(c.attr("block_size", 128)))


def _packed(codes: np.ndarray, bits: int) -> np.ndarray:
    """Codes of a matrix, moved to be unsigned where they are signed, with several in a byte."""
    signed = codes.astype(np.int16).min(initial=0) < 0 or codes.dtype.name.startswith("int")
    moved = (codes.astype(np.int16) + ((1 << (bits - 1)) if signed else 0)).astype(np.uint8)
    return joined_bits(np.pad(moved, [(0, 0), (0, -moved.shape[1] % (8 // bits))]), bits)


def _unpacked(c: Context, packed: Value, bits: int, columns: int) -> Value:
    """Bytes along the last axis as codes of one byte each, the lowest bits first."""
    if bits == 8:
        return packed
    each = 8 // bits
    wide = c.reshape(packed, (*packed.shape, 1))
    shifts = c.const(np.arange(0, 8, bits, dtype=np.uint8))
    moved = c.emit("BitShift", wide, shifts, direction="RIGHT")
    codes = c.emit("BitwiseAnd", moved, c.const(np.uint8((1 << bits) - 1)))
    codes = c.reshape(codes, (*packed.shape[:-1], packed.shape[-1] * each))
    return c.slice(codes, len(codes.shape) - 1, 0, columns)
