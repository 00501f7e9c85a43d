"""A table whose rows are taken, and that is also a product's matrix, turned, lies once: a language model's embeddings.

Two constants of the same bytes share memory. So the rows are read from where the product's kernel has them packed: the
table's layout is that of the matrix with its axes exchanged. A row is no stretch of memory then; that costs little
beside the product, which reads all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from edgec.compiler.ir import Node, Value
from edgec.compiler.layout import layout, storage_bytes
from edgec.compiler.op import body_of, const_array, int_attr, is_const
from edgec.compiler.registry import Choice

LEAST = 1 << 14  # bytes of a table: rows of smaller ones had better be stretches
_EXCHANGED = str.maketrans("KJkj", "JKjk")


def tied(choice: Mapping[Node, Choice], options: Mapping[Node, Sequence[Choice]]) -> dict[Node, Choice]:
    """The kernels that take rows of such tables, each with a choice that reads its tables so."""
    tables = [(node, k) for node in choice for k in _tables(node)]
    packed = list(_packed(choice)) if tables else []
    found: dict[Node, Choice] = {}
    for node, k in tables:
        now, table = found.get(node, choice[node]), node.args[k]
        where = next((text for matrix, text in packed if _is_turned(table, matrix)), None)
        if where is None:
            continue
        if (other := _reading_anything(now, options[node], k)) is not None:
            ways = (*other.layouts_in[:k], where, *other.layouts_in[k + 1 :])
            found[node] = replace(other, layouts_in=ways)
    return found


def _tables(node: Node) -> list[int]:
    """The arguments of a kernel that are constant matrices of which it takes rows, and does nothing else with them."""
    body = body_of(node)
    users = body.users()
    return [
        k
        for k, (arg, inner) in enumerate(zip(node.args, body.inputs, strict=True))
        if is_const(arg)
        and len(arg.shape) == 2
        and storage_bytes(arg.type) >= LEAST
        and inner not in body.outputs
        and all(n.op == "Gather" and n.args[0] == inner != n.args[1] and not int_attr(n, "axis") for n in users[inner])
    ]


def _packed(choice: Mapping[Node, Choice]) -> Iterator[tuple[Value, str]]:
    """Constant matrices that kernels read, and how each would lie if its axes were exchanged."""
    for node, chosen in choice.items():
        own = _tables(node)
        for k, (arg, want) in enumerate(zip(node.args, chosen.layouts_in, strict=True)):
            if is_const(arg) and len(arg.shape) == 2 and want is not None and k not in own and layout(want, 2).plain:
                yield arg, (want or "KJ").translate(_EXCHANGED)


def _is_turned(table: Value, matrix: Value) -> bool:
    a, b = table.type, matrix.type
    return (a.dtype, a.shape) == (b.dtype, b.shape[::-1]) and np.array_equal(const_array(table), const_array(matrix).T)


def _reading_anything(now: Choice, options: Sequence[Choice], k: int) -> Choice | None:
    """The cheapest choice that reads argument k in any layout, and all else as `now` does; None: there is none."""

    def alike(other: Choice) -> bool:
        ways = [other.layouts_in[i] in (None, want) for i, want in enumerate(now.layouts_in) if i != k]
        return other.layouts_in[k] is None and other.layouts_out == now.layouts_out and all(ways)

    return next((other for other in options if alike(other)), None)
