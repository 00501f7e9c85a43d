"""An ONNX graph in the making: nodes, constants, and names that are given once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from ..ir import Value


class NoForm(Exception):
    """ONNX has no node for it."""


class Writer:
    """Collects what a model holds; `taken` names are the graph's own inputs and outputs.

    `names` are those of values whose nodes are written.
    """

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.taken = set(taken)
        self.names: dict[Value, str] = {}
        self._last: dict[str, int] = {}

    def unique(self, name: str) -> str:
        """The name, with a number where it is given already."""
        word = name
        while word in self.taken:
            self._last[name] = self._last.get(name, 0) + 1
            word = f"{name}_{self._last[name]}"
        self.taken.add(word)
        return word

    def constant(self, array: Any, name: str = "") -> str:
        word = self.unique(name or "constant")
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array).reshape(np.shape(array)), word))
        return word

    def ints(self, values: Sequence[int]) -> str:
        return self.constant(np.asarray(values, np.int64))

    def node(self, op: str, args: Sequence[str], outputs: Sequence[str], **attrs: Any) -> None:
        self.nodes.append(helper.make_node(op, list(args), list(outputs), name=outputs[0], **attrs))

    def after(self, op: str, args: Sequence[str], **attrs: Any) -> str:
        """A node on the way to another: the name of its result."""
        made = self.unique(op.lower())
        self.node(op, args, [made], **attrs)
        return made

    def leave_out_unread(self, wanted: Iterable[str]) -> None:
        """Drops nodes and constants that lead to none of the `wanted` names: another node has taken their part."""
        read, kept = set(wanted), list[onnx.NodeProto]()
        for node in reversed(self.nodes):
            if not read.isdisjoint(node.output):
                read.update(node.input)
                kept.append(node)
        self.nodes = kept[::-1]
        self.constants = [c for c in self.constants if c.name in read]

    def made(self) -> set[str]:
        """Names of constants and of what nodes make."""
        return {c.name for c in self.constants} | {name for node in self.nodes for name in node.output}

    def read(self) -> set[str]:
        """Names that nodes read."""
        return {name for node in self.nodes for name in node.input}
