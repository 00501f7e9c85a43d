"""Input types: what the file declares, with the user's --shape, --dim and --bind put in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from ..dtypes import DTYPES, dtype, of_onnx
from ..errors import EdgecError, nearest
from ..ir import Type
from ..units import counted
from .context import check_size
from .table import Refused

Dim = int | str | None
UNKNOWN = frozenset(["", "?", "-1", "None"])  # no names: exporters write them for every size that they do not know


def declared(info: onnx.ValueInfoProto) -> tuple[str, list[Dim] | None]:
    """Element type and dimensions: numbers, names, None where unknown; no list where even the rank is unknown.

    Raises `Refused` for what is no tensor of numbers.
    """
    kind = info.type.WhichOneof("value")
    if kind != "tensor_type":
        what = str(kind).removesuffix("_type")
        way = f"; give the shapes of its members: --shape {info.name}=2x3,2x3" if what == "sequence" else ""
        raise Refused(f"is a {what}", f"edgec takes tensors only{way}")
    tensor = info.type.tensor_type
    name = of_onnx(tensor.elem_type)
    if name is None:
        shown = onnx.TensorProto.DataType.Name(tensor.elem_type) if tensor.elem_type in _NUMBERS else tensor.elem_type
        raise Refused(f"element type {shown} is not supported", f"expected one of {', '.join(DTYPES)}")
    if not tensor.HasField("shape"):
        return name, None
    return name, [_dim(d) for d in tensor.shape.dim]


_NUMBERS = frozenset(onnx.TensorProto.DataType.values())


def _dim(d: onnx.TensorShapeProto.Dimension) -> Dim:
    if d.HasField("dim_value") and d.dim_value >= 0:
        return int(d.dim_value)
    return None if d.dim_param in UNKNOWN else d.dim_param


def input_types(
    inputs: Sequence[onnx.ValueInfoProto],
    shapes: Mapping[str, Sequence[int]],
    dims: Mapping[str, int],
    binds: Mapping[str, Any],
    notice: Callable[[str], None],
) -> tuple[dict[str, Type], dict[str, npt.NDArray[Any]], dict[str, Refused]]:
    """Types of the inputs that stay, arrays of those that are bound, and why others cannot be had.

    Raises `EdgecError` naming input and flag.
    """
    names = [i.name for i in inputs]
    for flag, words in (("--shape", shapes.keys()), ("--bind", binds.keys())):
        for name in words:
            if name not in names:
                raise EdgecError(f"{flag} {name}=...: the model has no input {name!r}{nearest(name, names)}")
    found, refused = {}, {}
    for info in inputs:
        try:
            found[info.name] = declared(info)
        except Refused as why:
            refused[info.name] = why
    shapes = {name: shape for name, shape in shapes.items() if name in found}
    table = _bound_names(found, shapes, dims)
    types: dict[str, Type] = {}
    arrays: dict[str, npt.NDArray[Any]] = {}
    lacking: list[str] = []  # what must be said of inputs that are open
    for name, (element, known) in found.items():
        if name in binds:
            arrays[name] = _bound(name, element, known, binds[name])
            continue
        given = shapes.get(name)
        if known is None and given is None:
            lacking.append(f"input {name!r}: has no shape in the model; give it with --shape {name}=1x3x224x224, say")
            continue
        resolved = given if given is not None else _resolve(name, known or [], table, notice, lacking)
        types[name] = Type(element, tuple(int(n) for n in resolved))
        check_size(types[name], f"input {name!r}")
    if lacking:
        raise EdgecError(" | ".join(lacking))
    return types, arrays, refused


def _bound_names(
    found: Mapping[str, tuple[str, list[Dim] | None]], shapes: Mapping[str, Sequence[int]], dims: Mapping[str, int]
) -> dict[str, int]:
    """Sizes of named dimensions: --dim, and whatever --shape implies for them."""
    known = {d for _, shape in found.values() for d in shape or [] if isinstance(d, str)}
    for name, size in dims.items():
        if name not in known:
            raise EdgecError(f"--dim {name}={size}: the model has no dimension {name!r}{nearest(name, known)}")
        if size < 1:
            raise EdgecError(f"--dim {name}={size}: a size is at least 1")
    table = dict(dims)
    for name, given in shapes.items():
        if not isinstance(given, Sequence) or not all(isinstance(n, (int, np.integer)) for n in given):
            raise EdgecError(f"--shape {name}: {given!r} is no shape; expected sizes, such as (1, 3, 224, 224)")
        flag = f"--shape {name}={'x'.join(map(str, given))}"
        shape = found[name][1]
        if any(n < 0 for n in given):
            raise EdgecError(f"{flag}: sizes are not negative")
        if shape is None:
            continue
        shown = "x".join("?" if d is None else str(d) for d in shape)
        if len(given) != len(shape):
            raise EdgecError(f"{flag}: has {counted(len(given), 'dimension')}; the input is {shown or 'a scalar'}")
        for at, (n, d) in enumerate(zip(given, shape, strict=True)):
            if isinstance(d, int) and d != n:
                raise EdgecError(f"{flag}: dimension {at} is {n}; the model fixes it: {shown}")
            if isinstance(d, str) and table.setdefault(d, n) != n:
                raise EdgecError(f"{flag}: dimension {d!r} is {n} here and {table[d]} elsewhere")
    return table


def _resolve(
    name: str, shape: Sequence[Dim], table: dict[str, int], notice: Callable[[str], None], lacking: list[str]
) -> Sequence[int]:
    """The sizes of an input; what is open is told to `lacking`, a name once."""
    sizes: list[int] = []
    still_open: dict[str, str] = {}  # as shown -> its name
    for at, d in enumerate(shape):
        if isinstance(d, int):
            sizes.append(d)
        elif d in table:
            sizes.append(table[d])
        elif at == 0:
            shown = f" {d!r}" if d else ""
            notice(f"input {name!r}: first dimension{shown} is taken as 1; --shape or --dim changes it")
            sizes.append(1)
            if d:
                table[d] = 1
        else:
            still_open[repr(d) if d else str(at)] = str(d or "")
    if still_open:
        flags = f"--shape {name}={'x'.join(str(n) if isinstance(n, int) else 'N' for n in shape)}"
        if all(still_open.values()):
            flags += f" or {' '.join(f'--dim {d}=N' for d in still_open.values())}"
        s, are = ("", "is open; give it") if len(still_open) == 1 else ("s", "are open; give them")
        lacking.append(f"input {name!r}: dimension{s} {', '.join(still_open)} {are} with {flags}")
        table |= {d: 1 for d in still_open.values() if d}
    return sizes


def _bound(name: str, element: str, known: list[Dim] | None, value: Any) -> npt.NDArray[Any]:
    """The array of --bind; one number fills a shape that is fixed."""
    try:
        array = np.asarray(value).astype(dtype(element).numpy)
    except (ValueError, TypeError):
        raise EdgecError(f"--bind {name}={value!r}: is not of type {element}") from None
    fixed = [d for d in known or [] if isinstance(d, int)]
    if known and array.ndim == 0 and len(fixed) == len(known):
        check_size(Type(element, tuple(fixed)), f"input {name!r}")
        return np.full(fixed, array)
    fits = known is None or len(known) == array.ndim
    if not fits or any(isinstance(d, int) and d != n for d, n in zip(known or [], array.shape, strict=False)):
        raise EdgecError(f"--bind {name}: has shape {list(array.shape)}; the input is {known}")
    return array
