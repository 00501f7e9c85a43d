"""Inputs that are sequences or optionals: the members become inputs of their own, where their shapes are given.

The members of `s` are `s.0`, `s.1` and so on. An optional is taken to be there, unless None is bound to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import onnx

from ..errors import EdgecError
from ..ir import Value
from .context import ABSENT, Held, Items


@dataclass
class Spread:
    """The inputs as tensors, what was given for those that stay, and the members of each sequence (None: absent)."""

    declared: list[onnx.ValueInfoProto] = field(default_factory=list)
    shapes: dict[str, Sequence[int]] = field(default_factory=dict)
    binds: dict[str, Any] = field(default_factory=dict)
    members: dict[str, list[str] | None] = field(default_factory=dict)

    def held(self, tensors: Mapping[str, Value]) -> dict[str, Held]:
        """The sequences and optionals of these tensors, by name."""
        return {
            name: ABSENT if names is None else Items(tuple(tensors[n] for n in names))
            for name, names in self.members.items()
            if names is None or all(n in tensors for n in names)
        }


def spread(declared: Sequence[onnx.ValueInfoProto], shapes: Mapping[str, Any], binds: Mapping[str, Any]) -> Spread:
    """Sequences whose shapes are not given stay as they are."""
    result = Spread(shapes=dict(shapes), binds=dict(binds))
    for info in declared:
        inner = info.type
        if inner.HasField("optional_type"):
            if info.name in binds and binds[info.name] is None:
                result.members[info.name] = None
                del result.binds[info.name]
                continue
            inner = inner.optional_type.elem_type
        if inner.HasField("sequence_type") and _is_list_of_shapes(shapes.get(info.name)):
            element = inner.sequence_type.elem_type.tensor_type.elem_type
            given: list[Any] = list(result.shapes.pop(info.name))
            names = [f"{info.name}.{k}" for k in range(len(given))]
            if taken := [other.name for other in declared if other.name in names]:
                raise EdgecError(f"input {info.name!r}: its member {taken[0]!r} has the name of another input")
            result.members[info.name] = names
            result.declared += [
                onnx.helper.make_tensor_value_info(name, element, shape)
                for name, shape in zip(names, given, strict=True)
            ]
        else:
            result.declared.append(onnx.ValueInfoProto(name=info.name, type=inner))
    return result


def _is_list_of_shapes(given: Any) -> bool:
    return isinstance(given, (list, tuple)) and all(isinstance(one, (list, tuple)) for one in given)
