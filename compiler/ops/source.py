"""Sources: graph inputs and constants."""

from __future__ import annotations

from typing import Any

from ..dtypes import of_numpy
from ..errors import IRError
from ..ir import Data, Type
from ..op import REQUIRED, op
from .common import Tensor


def _input(**_: Any) -> tuple[Type, ...]:
    raise IRError("an input's type is stored, not inferred")


def _fed(**_: Any) -> Tensor:
    raise IRError("an input's value is fed, not computed")


def _const(data: Data, **_: Any) -> tuple[Type, ...]:
    return (Type(of_numpy(data.array.dtype), tuple(data.array.shape)),)


op("Input", 0, _input, _fed, kind="source", attrs={"arena": ()})
op("Const", 0, _const, lambda data: data.array, kind="source", attrs={"data": REQUIRED})
