"""Samples that a user gives, for calibration or to run a model on: from .npz, from a folder, from Python, to one feed
after the other in the model's types."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from ..dtypes import dtype, known_as
from ..errors import EdgecError, nearest
from ..ir import Graph, Type
from ..ops.common import Tensor
from ..ports import read_arrays
from .images import IMAGES, images, preparation
from .rows import Rows, rows_read

Source: TypeAlias = "str | Path | Mapping[str, Any] | Iterable[Any] | Callable[[], Iterable[Any]]"
Feed = dict[str, Tensor]


@dataclass
class Calibration:
    """`feeds()` may be asked for several times, and yields a feed per sample; then `count`, `pictures`
    and `left`, rows that fill no batch, are known.

    `option`, `called`: the user's words for the data; `finite`: whether NaN and infinity are refused; `rows`: of inputs
    that name rows of tables, which rows there are."""

    source: Source
    inputs: Mapping[str, Type]
    prepare: str = ""
    most: int | None = None
    option: str = "calib"
    called: str = "calibration data"
    finite: bool = True
    rows: Mapping[str, Rows] = field(default_factory=dict)
    file: Path | None = None  # that is being read
    count: int = 0
    pictures: bool = False
    left: int = 0

    def feeds(self) -> Iterator[Feed]:
        """Every sample, checked."""
        number = 0
        for sample in self._samples():
            for feed in self._split(sample, number):
                if self.most is not None and number >= self.most:
                    return
                yield feed
                number += 1
        self.count = number
        if not number:
            raise EdgecError(f"{self._where}: holds no sample")

    @property
    def _where(self) -> str:
        return str(self.file or self.source) if isinstance(self.source, (str, Path)) else self.called

    def _samples(self) -> Iterator[Mapping[str, Any]]:
        """Stacks of samples, by input."""
        source = self.source
        if isinstance(source, str) and ".py:" in source:
            source = load_function(source, f"--{self.option}")
        if isinstance(source, (str, Path)):
            yield from self._from_path(Path(source))
            return
        if isinstance(source, (Mapping, np.ndarray)):
            yield self._named(source)
            return
        if isinstance(source, Iterator):
            source = self.source = list(self._made(source))  # read more than once
        for one in self._made(source):
            yield self._named(one)

    def _made(self, source: Any) -> Iterator[Any]:
        """What the user's Python makes, one after the other; whatever it raises is its own fault."""
        try:
            yield from source() if callable(source) else source
        except Exception as error:
            raise EdgecError(f"{self._where}: {type(error).__name__}: {error}") from error

    def _from_path(self, path: Path) -> Iterator[Mapping[str, Any]]:
        if not str(self.source).strip():
            raise EdgecError(f"{self.option}: '' names no file; expected data.npz, a folder or script.py:function")
        if path.is_dir():
            files = sorted(p for p in path.iterdir() if p.suffix.lower() in (".npy", ".npz", *IMAGES))
            if not files:
                raise EdgecError(f"{path}: holds no .npy, .npz or image file")
            for self.file in files:
                yield from self._from_file(self.file)
            self.file = None
        elif path.is_file():
            yield from self._from_file(path)
        else:
            raise EdgecError(f"{path}: no such file or folder")

    def _from_file(self, path: Path) -> Iterator[Mapping[str, Any]]:
        if path.suffix.lower() in IMAGES:
            (name,), self.pictures = self._only(f"{path}: one picture"), True
            yield {name: images(path, self.inputs[name], preparation(self.prepare))}
            return
        if path.suffix == ".py":
            raise EdgecError(f"{path}: is no file of arrays; expected {path}:function")
        yield self._named(read_arrays(path))

    def _only(self, what: str) -> tuple[str]:
        if len(self.inputs) != 1:
            raise EdgecError(
                f"{what} for {len(self.inputs)} inputs ({', '.join(self.inputs)}); expected arrays by name"
            )
        return (next(iter(self.inputs)),)

    def _named(self, given: Any) -> Mapping[str, Any]:
        """Arrays by name of input; one array of any name serves a model with one input."""
        if not isinstance(given, Mapping):
            return {self._only(f"{self._where}: one array")[0]: given}
        if len(given) == 1 and len(self.inputs) == 1:
            return dict(zip(self.inputs, given.values(), strict=True))
        for name in given:
            if name not in self.inputs:
                raise EdgecError(f"{self._where}: {name!r} is no input{nearest(name, self.inputs)}")
        for name in self.inputs:
            if name not in given:
                raise EdgecError(f"{self._where}: input {name!r} is missing")
        return given

    def _split(self, stacks: Mapping[str, Any], first: int) -> Iterator[Feed]:
        arrays = {name: self._stack(name, stacks[name], t, first) for name, t in self.inputs.items()}
        counts = {name: len(a) for name, a in arrays.items()}
        most = max(counts.values(), default=1)
        for name, n in counts.items():
            if n not in (1, most):
                raise EdgecError(f"{self._where}: input {name!r} has {n} samples, others {most}")
        for k in range(most):
            yield {name: self._checked(name, a[k if len(a) > 1 else 0], first + k) for name, a in arrays.items()}

    def _stack(self, name: str, given: Any, t: Type, first: int) -> Any:
        """An array with one more axis in front than the input has: samples."""
        kind = dtype(t.dtype).numpy
        array = known_as(np.asarray(given), kind)
        if array.dtype != kind and array.dtype.kind not in "fiub":
            raise EdgecError(f"{self._where}: input {name!r} is {array.dtype}; expected numbers")
        if array.shape[1:] == t.shape and array.ndim:
            return array
        if array.shape == t.shape:
            return array[None]
        if t.shape and array.shape[1:] == t.shape[1:] and array.ndim:
            batch = t.shape[0]
            if batch and len(array) >= batch:
                self.left = max(self.left, len(array) % batch)
                return array[: len(array) // batch * batch].reshape(-1, *t.shape)
            if not len(array):
                return array.reshape(0, *t.shape)
        if t.shape and t.shape[0] == 1 and array.shape == t.shape[1:]:
            return array[None, None]
        raise EdgecError(
            f"{self._where}: input {name!r} has shape {list(array.shape)}; expected N samples of {list(t.shape)}"
        )

    def _checked(self, name: str, given: Tensor, number: int) -> Tensor:
        want = dtype(self.inputs[name].dtype).numpy
        array = np.asarray(given)
        if want.kind in "iub" and array.dtype.kind == "f":
            raise EdgecError(f"{self._where}: input {name!r} is {array.dtype}; expected {self.inputs[name].dtype}")
        with np.errstate(over="ignore", invalid="ignore"):
            made = np.ascontiguousarray(array.astype(want))
        if want.kind in "iub" and (made != array).any():
            raise EdgecError(f"{self._where}: input {name!r} holds numbers that are no {self.inputs[name].dtype}")
        if self.finite and made.dtype.kind == "f" and not np.isfinite(made).all():
            raise EdgecError(f"{self._where}: sample {number} of input {name!r} holds NaN or infinity")
        if (rows := self.rows.get(name)) and made.size:
            odd = next((n for n in (made.min(), made.max()) if not -rows.count <= n < rows.count), None)
            if odd is not None:
                raise EdgecError(
                    f"{self._where}: sample {number} of input {name!r} holds {odd}; it names rows of a table of "
                    f"{rows.count} ({rows.node})"
                )
        return made


def calibration(source: Source, graph: Graph, prepare: str = "", most: int | None = None) -> Calibration:
    """Calibration data for the inputs of a graph."""
    inputs = {v.name: v.type for v in graph.inputs}
    return Calibration(source, inputs, prepare, most, rows=rows_read(graph))


def load_function(text: str, flag: str) -> Callable[..., Any]:
    """A function of a Python file, given as `script.py:name`."""
    path, _, name = text.rpartition(":")
    if not path:
        raise EdgecError(f"{flag} {text}: expected {text if text.endswith('.py') else 'script.py'}:function")
    spec = importlib.util.spec_from_file_location(Path(path).stem, path) if Path(path).is_file() else None
    if spec is None or spec.loader is None:
        raise EdgecError(f"{flag} {text}: {path}: no such Python file; expected script.py:function")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever the script raises
        raise EdgecError(f"{flag} {text}: {type(error).__name__}: {error}") from error
    found = getattr(module, name, None)
    if not callable(found):
        raise EdgecError(f"{flag} {text}: {path} has no function {name!r}")
    function: Callable[..., Any] = found
    return function
