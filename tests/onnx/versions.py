"""Operators in the forms of their schema versions: which arguments and attributes, from which operator set to which."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx

OLDEST = 7
SCHEMAS = onnx.defs.get_all_schemas_with_history()
RNG = np.random.default_rng(11)


@dataclass(frozen=True)
class K:
    """An argument that is a constant of the model."""

    value: Any


@dataclass(frozen=True)
class Row:
    """One node, for every schema version of its operator between two operator sets (both inclusive).

    `meaning` gives the right answer where ONNX Runtime and ONNX's own evaluator give another than the text.
    """

    op: str
    args: tuple[Any, ...]
    attrs: dict[str, Any] = field(default_factory=dict)
    since: int = OLDEST
    until: int = onnx.defs.onnx_opset_version()
    results: int = 1
    meaning: Any = None

    def opsets(self) -> Iterator[int]:
        """The first operator set of each schema version that the row is for."""
        for version in versions(self.op):
            following = min((v for v in versions(self.op) if v > version), default=self.until + 1)
            if version <= self.until and following > self.since:
                yield max(version, self.since)

    def __str__(self) -> str:
        shown = ",".join("-" if a is None else "x".join(map(str, np.shape(getattr(a, "value", a)))) for a in self.args)
        return f"{self.op}({shown}){''.join(f'-{k}={v}' for k, v in self.attrs.items())}".replace(" ", "")


def versions(op: str) -> list[int]:
    """Schema versions of an operator that any operator set from the oldest on has."""
    found = sorted({s.since_version for s in SCHEMAS if (s.domain, s.name) == ("", op) and not s.deprecated})
    first = max((v for v in found if v <= OLDEST), default=0)
    return [v for v in found if v >= first]


def f32(*shape: int) -> Any:
    return RNG.standard_normal(shape).astype(np.float32)


def ints(low: int, high: int, *shape: int, to: Any = np.int64) -> Any:
    return RNG.integers(low, high, shape).astype(to)


def i64(*values: int) -> K:
    return K(np.asarray(values, np.int64))


def scalar(value: Any, kind: Any = np.float32) -> K:
    return K(np.asarray(value, kind))


X, CUBE, IMAGE = f32(2, 3), f32(2, 3, 4), f32(2, 4, 6, 5)
I32, I8, U8 = ints(-9, 9, 2, 3, to=np.int32), ints(-9, 9, 2, 3, to=np.int8), ints(0, 9, 2, 3, to=np.uint8)
FLAGS = X > 0
FAR = 2**31 - 1
