"""What a converter sees of its node, and how it writes the canonical form.

Attributes fall back to the defaults of the node's operator set version. `emit` folds at once whatever depends on
constants alone, so arithmetic on shapes leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import prod
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx

from ..dtypes import DTYPES, dtype
from ..errors import EdgecError, IRError
from ..ir import Attr, Node, Type, Value
from ..op import OPS, const, const_array, evaluate, is_const, row
from ..op import infer as infer_types
from .table import CONVERTERS, Count, Refused

FOLD_BYTES = 64 << 20  # constants computed by folding stay below, unless their arguments are as large
VALUE_BYTES = 1 << 31  # no value is larger: offsets in generated code are 32 bits wide
_KEPT = frozenset({"DequantizeLinear"})  # folding it would turn int8 weights into floats


@dataclass(frozen=True)
class Items:
    """A sequence of tensors, known when the model is compiled."""

    members: tuple[Value, ...]


@dataclass(frozen=True)
class Absent:
    """An optional that holds nothing."""


@dataclass(frozen=True)
class Unknown:
    """What an unsupported node would have computed, or a constant whose element type we lack (`why`)."""

    why: str = ""


ABSENT = Absent()
Held: TypeAlias = "Value | Items | Absent"


def value_bytes(t: Type) -> int:
    """Bytes of a row-major value, without overflow."""
    return prod(t.shape) * dtype(t.dtype).bytes


def check_size(t: Type, where: str) -> None:
    """Refuse values beyond `VALUE_BYTES` before anything is allocated for them."""
    if value_bytes(t) >= VALUE_BYTES:
        raise EdgecError(f"{where}: {t} would hold {value_bytes(t)} bytes; at most {VALUE_BYTES - 1} are possible")


@cache
def _defaults(op: str, opset: int) -> dict[str, Any]:
    """Defaults of an operator's attributes in an operator set version; of another domain's, in its latest."""
    domain, _, name = op.rpartition(".")
    if not (onnx.defs.has(name, domain) if domain else onnx.defs.has(op, opset, "")):
        return {}
    schema = onnx.defs.get_schema(name, domain) if domain else onnx.defs.get_schema(op, opset, "")
    found = schema.attributes.values()
    given = {a.name: onnx.helper.get_attribute_value(a.default_value) for a in found if a.default_value.name}
    return {k: v.decode() if isinstance(v, bytes) else v for k, v in given.items()}


class Context:
    """One ONNX node under conversion."""

    def __init__(
        self,
        op: str,
        name: str,
        opset: int,
        args: Sequence[Held | None],
        attrs: dict[str, Any],
        outputs: Sequence[str],
        named: int = 1,
        counts: Mapping[int, Count] | None = None,
        sizes: Mapping[int, npt.NDArray[Any]] | None = None,
    ) -> None:
        self.op = op
        self.name = name
        self.opset = opset
        self.args = list(args)
        self.attrs = attrs
        self.outputs = list(outputs)  # "" where nobody reads the result
        self.label = next((output for output in outputs if output), name)  # begins the names of what is written
        self.named = named  # results that the node names, read or not
        self.counts = dict(counts or {})  # of the arguments whose size depends on data (sized/rules.py)
        self.sizes = dict(sizes or {})  # of the arguments that are computed shapes (sized/sizes.py)
        self.fresh: list[Node] = []
        self.made: dict[Value, Count] = {}  # of the results

    # ---- reading ----

    def has(self, index: int) -> bool:
        """Whether an optional argument is given."""
        return index < len(self.args) and self.args[index] is not None

    def any(self, index: int = 0) -> Held:
        """An argument that must be there, whatever it is."""
        value = self.args[index] if index < len(self.args) else None
        if value is None:
            raise EdgecError(f"{self.where}: argument {index} is missing")
        return value

    def arg(self, index: int = 0) -> Value:
        """An argument that must be there, a tensor."""
        value = self.any(index)
        if isinstance(value, Items):
            raise Refused(f"its argument {index} is a sequence", "expected a tensor")
        if isinstance(value, Absent):
            raise Refused(f"its argument {index} is an optional that holds nothing", "expected a tensor")
        return value

    def items(self, index: int = 0) -> tuple[Value, ...]:
        """The members of an argument that must be a sequence."""
        value = self.any(index)
        if not isinstance(value, Items):
            raise EdgecError(f"{self.where}: argument {index} is no sequence")
        return value.members

    @property
    def where(self) -> str:
        return f"node {self.name!r} ({self.op})"

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the first argument."""
        return self.arg().shape

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def dtype(self) -> str:
        return self.arg().type.dtype

    def attr(self, key: str, default: Any = None) -> Any:
        """An attribute: the node's own, else the operator set's default, else `default`."""
        if key in self.attrs:
            value = self.attrs[key]
        else:
            value = _defaults(self.op, self.opset).get(key, default)
        return tuple(value) if isinstance(value, list) else value

    def array(self, index: int, what: str) -> npt.NDArray[Any]:
        """A constant argument."""
        value = self.arg(index)
        if not is_const(value):
            raise Refused(
                f"its {what} ({value.name!r}) is computed while the model runs",
                "expected a constant; --shape, --dim or --bind may make it one",
            )
        return const_array(value)

    def ints(self, index: int, what: str) -> tuple[int, ...] | None:
        """Integers that are an attribute in some operator sets and argument `index` in others; None where not given."""
        if what in self.attrs:
            given = self.attr(what)
            return given if isinstance(given, tuple) else (int(given),)
        if not self.has(index):
            return None
        return tuple(int(v) for v in self.array(index, what).reshape(-1))

    def axis(self, default: int = 0, rank: int | None = None) -> int:
        """The attribute `axis`, not negative."""
        return self.in_rank(int(self.attr("axis", default)), self.rank if rank is None else rank)

    def in_rank(self, axis: int, rank: int) -> int:
        """An axis counted from the front."""
        if not -rank <= axis < max(rank, 1):
            raise EdgecError(f"{self.where}: axis {axis} is outside a tensor of {rank} axes")
        return axis % max(rank, 1)

    def wants(self, output: int) -> bool:
        """Whether anything reads an output."""
        return output < len(self.outputs) and bool(self.outputs[output])

    # ---- writing ----

    def emit(self, op: str, *args: Value, **attrs: Attr) -> Value:
        """The first result of an operator of the canonical table."""
        return self.emit_all(op, *args, **attrs)[0]

    def emit_all(self, op: str, *args: Value, **attrs: Attr) -> tuple[Value, ...]:
        """All results. Constants where every argument is one and the results are not too large, or have no elements."""
        try:
            row(op).check(Node(op, args, (), attrs))
            types = infer_types(op, [a.type for a in args], attrs)
        except IRError as error:
            raise EdgecError(f"{self.where}: {str(error).removeprefix(f'{op}: ')}") from None
        for t in types:
            check_size(t, self.where)
        node = Node(op, args, types, attrs, f"{self.label}.{op.lower()}", (self.name,))
        if args and op not in _KEPT and OPS[op].kind != "control" and all(map(is_const, args)):
            size = sum(map(value_bytes, types))
            if size <= max(FOLD_BYTES, sum(value_bytes(a.type) for a in args)):
                return tuple(self.const(array) for array in self._fold(node))
        self.fresh.append(node)
        return tuple(v if v.type.size else self.const(np.empty(v.shape), v) for v in node.results)

    def _fold(self, node: Node) -> tuple[npt.NDArray[Any], ...]:
        try:
            return evaluate(node, [const_array(a) for a in node.args])
        except (IndexError, ValueError, TypeError, ArithmeticError) as error:
            raise EdgecError(f"{self.where}: cannot be computed: {error}") from None

    def of(self, op: str, opset: int, *args: Value, **attrs: Any) -> Value:
        """The result of another operator of ONNX, in an operator set version, by that one's own converter."""
        return self.all_of(op, opset, args, **attrs)[0]

    def all_of(
        self, op: str, opset: int, args: Sequence[Held | None], outputs: int = 1, /, **attrs: Any
    ) -> tuple[Value, ...]:
        """All results, as many as `outputs`."""
        labels = [self.label] if outputs == 1 else [f"{self.label}.{k}" for k in range(outputs)]
        other = Context(op, self.name, opset, args, attrs, labels, outputs)
        other.fresh = self.fresh
        made = CONVERTERS[op](other)
        if isinstance(made, Value):
            return (made,)
        assert isinstance(made, Sequence)
        return tuple(v for v in made if isinstance(v, Value))

    def sized(self, x: Value, count: Count) -> Value:
        """A result whose size depends on data, and this is noted; where its count is a constant, it is cut at once."""
        if not is_const(count.value):
            if x.node not in self.fresh:  # an argument, which others read as it is
                known = [self.counts[i] for i, arg in enumerate(self.args) if i in self.counts and arg == x]
                if any((n.axis, n.value) == (count.axis, count.value) for n in known):
                    return x
                x = self.emit("Edgec.Layout", x)
            self.made[x] = count
            return x
        return self.slice(x, count.axis, 0, int(const_array(count.value)))

    def const(self, values: npt.ArrayLike, like: Value | str | None = None) -> Value:
        """A constant; `like` gives its element type."""
        array = np.asarray(values)
        if like is not None:
            array = array.astype(DTYPES[like if isinstance(like, str) else like.type.dtype].numpy)
        value = const(array, f"{self.label}.const", (self.name,))
        self.fresh.append(value.node)
        return value

    def reshape(self, x: Value, shape: Sequence[int]) -> Value:
        """Reshape, or `x` itself where it has that shape."""
        return x if x.shape == tuple(shape) else self.emit("Reshape", x, shape=tuple(int(n) for n in shape))

    def slice(self, x: Value, axis: int, start: int, end: int) -> Value:
        """Elements start .. end - 1 along an axis, or `x` itself where these are all."""
        if (start, end) == (0, x.shape[axis]):
            return x
        return self.emit("Slice", x, starts=(start,), ends=(end,), axes=(axis,), steps=(1,))

    def transpose(self, x: Value, perm: Sequence[int]) -> Value:
        """Transpose, or `x` itself where nothing moves."""
        return x if list(perm) == list(range(len(perm))) else self.emit("Transpose", x, perm=tuple(perm))

    def cast(self, x: Value, to: str) -> Value:
        """Cast, or `x` itself where it has that type."""
        return x if x.type.dtype == to else self.emit("Cast", x, to=to)
