"""Graph IR: frozen records. A pass builds a new Graph; it never edits one.

Shapes are logical: a value's `layout` says how it lies in memory (see `layout.py`) and changes neither its shape
nor its meaning, so the interpreter and every inference function ignore it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from .errors import IRError

__all__ = ["Array", "Attr", "Data", "Graph", "IRError", "Node", "QParams", "Type", "Value"]

Array: TypeAlias = npt.NDArray[np.generic]
Attr: TypeAlias = "bool | int | float | str | tuple[Attr, ...] | Data | Graph"


@dataclass(frozen=True, slots=True)
class QParams:
    """real = (int - zero) * scale; one pair per tensor, or one per slice of `axis`."""

    scale: tuple[float, ...]
    zero: tuple[int, ...]
    axis: int | None = None


@dataclass(frozen=True, slots=True)
class Type:
    """Element type name (dtypes.py), logical shape, memory layout ("" is row-major), quantization."""

    dtype: str
    shape: tuple[int, ...]
    layout: str = ""
    q: QParams | None = None

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join(map(str, self.shape))}]" + (f"@{self.layout}" if self.layout else "")

    @property
    def size(self) -> int:
        """Number of elements (logical)."""
        return int(np.prod(self.shape, dtype=np.int64))


class Data:
    """A read-only array held by a constant. Compared by identity: passes never copy weights they do not change.

    `text` is how the printer writes it when it was written that way (`randn:1`, say); otherwise the numbers.
    """

    __slots__ = ("array", "text")

    def __init__(self, array: npt.ArrayLike, text: str = "") -> None:
        view = np.asarray(array).view()
        view.flags.writeable = False
        self.array: Array = view
        self.text = text

    def __repr__(self) -> str:
        return f"Data({self.text or self.array.shape})"


@dataclass(frozen=True, slots=True, eq=False)  # identity, not value, is equality
class Node:
    """One operation. `types` holds one type per result; `origin` names the ONNX nodes that it came from."""

    op: str
    args: tuple[Value, ...]
    types: tuple[Type, ...]
    attrs: Mapping[str, Attr] = field(default_factory=dict)
    name: str = ""
    origin: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.op} {self.name!r}" if self.name else self.op

    @property
    def results(self) -> tuple[Value, ...]:
        return tuple(Value(self, i) for i in range(len(self.types)))


class Value(NamedTuple):
    """Result number `index` of `node`."""

    node: Node
    index: int = 0  # type: ignore[assignment]  # hides tuple.index, which nobody needs here

    @property
    def type(self) -> Type:
        return self.node.types[self.index]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.type.shape

    @property
    def name(self) -> str:
        """The node's name, with the result number where there are several."""
        node = self.node
        return node.name if len(node.types) == 1 else f"{node.name}.{self.index}"


@dataclass(frozen=True)
class Graph:
    """Inputs are `Input` nodes; `output_names` are the names that the user sees (default: the values' own)."""

    name: str
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    output_names: tuple[str, ...] = ()

    def nodes(self) -> Iterator[Node]:
        """Every node that an output needs, and every input, producers first. Dead nodes are not reached."""
        seen: set[Node] = set()
        stack = [(v.node, False) for v in reversed((*self.inputs, *self.outputs))]
        while stack:
            node, ready = stack.pop()
            if ready:
                yield node
            elif node not in seen:
                seen.add(node)
                stack.append((node, True))
                stack += [(a.node, False) for a in reversed(node.args) if a.node not in seen]

    def uses(self) -> dict[Value, int]:
        """How often each value is read, by nodes and as an output."""
        count: dict[Value, int] = {}
        for value in [a for node in self.nodes() for a in node.args] + list(self.outputs):
            count[value] = count.get(value, 0) + 1
        return count

    def users(self) -> dict[Value, list[Node]]:
        """The nodes that read each value, each once, in order."""
        table: dict[Value, list[Node]] = {}
        for node in self.nodes():
            for arg in dict.fromkeys(node.args):
                table.setdefault(arg, []).append(node)
        return table

    def map(self, fn: Callable[[Node], Value | tuple[Value, ...] | None]) -> Graph:
        """Rebuild bottom-up. `fn` sees each node with already rebuilt arguments; None keeps it."""
        new: dict[Value, Value] = {}
        for old in self.nodes():
            args = tuple(new[a] for a in old.args)
            node = old if args == old.args else replace(old, args=args)
            out = fn(node)
            results = node.results if out is None else (out,) if isinstance(out, Value) else out
            if len(results) != len(old.types):
                raise IRError(f"{old}: replaced by {len(results)} values; it has {len(old.types)} results")
            new.update(zip(old.results, results, strict=True))
        return self.with_values(tuple(new[v] for v in self.inputs), tuple(new[v] for v in self.outputs))

    def with_values(self, inputs: tuple[Value, ...], outputs: tuple[Value, ...]) -> Graph:
        """The same name and output names around other values."""
        return Graph(self.name, inputs, outputs, self.output_names)

    @property
    def results(self) -> tuple[tuple[str, Value], ...]:
        """Outputs with the names that the user sees."""
        names = self.output_names or tuple(v.name for v in self.outputs)
        return tuple(zip(names, self.outputs, strict=True))
