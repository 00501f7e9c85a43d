"""What the fields of a target's description may hold: a form for each, checked where the file is read."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from math import inf
from typing import Any

from .errors import EdgecError, nearest
from .isa import isa_bits
from .units import read_bytes

Part = Callable[[Any, str], Any]  # what reads a field that is a table of its own: its value, where it stands
Form = tuple[str, Callable[[Any], bool]]  # what is expected, and whether a value is that


def record(kind: type[Any], table: Any, where: str, parts: Mapping[str, Part] | None = None) -> Any:
    """A record of `kind` from a table of TOML, whose fields in `parts` are read by those."""
    values = fields_of(kind, table, where, parts or {})
    fields = dataclasses.fields(kind)
    if missing := [f.name for f in fields if f.name not in table and f.default is dataclasses.MISSING]:
        raise EdgecError(f"{where}: missing {', '.join(missing)}")
    return kind(**values)


def fields_of(kind: type[Any], table: Any, where: str, parts: Mapping[str, Part]) -> dict[str, Any]:
    """The fields that the table gives, each checked."""
    if not isinstance(table, dict):
        raise EdgecError(f"{where}: {table!r}: expected a table")
    fields = {
        f.name: f for f in dataclasses.fields(kind) if f.name in parts or f.name in _BY_NAME or f.type in _BY_TYPE
    }
    for key in table:
        if key not in fields:
            raise EdgecError(f"{where}: unknown key {key!r}{nearest(key, fields)}")
    return {key: _field(fields[key], value, where, parts) for key, value in table.items()}


def _field(field: dataclasses.Field[Any], value: Any, where: str, parts: Mapping[str, Part]) -> Any:
    name = field.name
    if name in parts:
        return parts[name](value, where)
    if name == "stack_bytes":
        return read_bytes(f"{where}: {name}", value)
    expected, fits = _BY_NAME.get(name) or _BY_TYPE[str(field.type)]
    if not fits(value):
        raise EdgecError(f"{where}: {name} = {value!r}: expected {expected}")
    if name == "isa":
        return _features(value, where)
    return tuple(value) if isinstance(value, list) else value


def _features(names: list[str], where: str) -> frozenset[str]:
    """Features as edgec.h knows them; CUDA is what no CPU has."""
    for name in names:
        if name not in (known := [*isa_bits(), "CUDA"]):
            raise EdgecError(f"{where}: isa: unknown feature {name!r}{nearest(name, known)}")
    return frozenset(names)


def _is_count(value: Any, least: int = 1) -> bool:
    return type(value) is int and least <= value < 1 << 63


def _is_power(value: Any, least: int, most: int) -> bool:
    return _is_count(value, least) and value <= most and value & (value - 1) == 0


def _is_list_of(kind: type[Any], value: Any) -> bool:
    return isinstance(value, list) and all(type(one) is kind for one in value)


def _is_memory(value: Any) -> bool:
    return _is_list_of(int, value) and len(value) == 2 and value[0] >= 0 and value[1] > 0


_LIST = ("a list of texts", lambda value: _is_list_of(str, value))
_MAYBE: Form = ("a whole number that is not negative", lambda value: _is_count(value, 0))  # there may be none of it
_BY_TYPE: dict[str, Form] = {  # by the annotation of a field
    "str": ("a text", lambda value: isinstance(value, str)),
    "bool": ("true or false", lambda value: isinstance(value, bool)),
    "int": ("a whole number above zero", _is_count),
    "float": ("a number above zero", lambda value: _is_count(value) or (type(value) is float and 0 < value < inf)),
    "tuple[int, int]": ("an address and a number of bytes above zero", _is_memory),
    "tuple[str, ...]": _LIST,
    "frozenset[str]": _LIST,
}
_BY_NAME: dict[str, Form] = {  # by the name of a field, before its annotation
    "l1d": _MAYBE,
    "l2": _MAYBE,
    "l3": _MAYBE,
    "vectors": _MAYBE,
    "archs": ("a list of one text or more", lambda value: _is_list_of(str, value) and bool(value)),
    "vector_bits": ("32, 64, 128, 256 ...", lambda value: _is_power(value, 32, 2048)),
    "pointer_bits": ("32 or 64", lambda value: _is_power(value, 32, 64)),
    "align": ("1, 2, 4, 8 ... bytes", lambda value: _is_power(value, 1, 4096)),
}
