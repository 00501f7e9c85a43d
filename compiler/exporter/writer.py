"""An ONNX graph in the making: nodes, constants, and names that are given once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper


class NoForm(Exception):
    """ONNX has no node for it."""


class Writer:
    """Collects what a model holds; `taken` names are the graph's own inputs and outputs."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.taken = set(taken)
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
