"""Runs a compiled bundle from Python, through the C runtime (ctypes): the same code that the device runs."""

from __future__ import annotations

import _ctypes
import ctypes as c
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from ..bundle.cuda_emulation import driver_for
from ..bundle.manifest import Bundle, read_bundle
from ..dtypes import DTYPES, known_as
from ..errors import EdgecError
from ..isa import isa_names
from ..ports import Port, check_names, cut
from . import abi as abi
from .benchmark import Benchmark, benchmark
from .opened import description, opened

# EC_F32 and so on: the rows of dtypes.py stand in the order of the enum in edgec.h
_NUMPY = {number: row.numpy for number, row in enumerate(DTYPES.values(), 1)}


def load(path: str | Path | Bundle, threads: int | None = None, *, level: str | None = None) -> Model:
    """Open a bundle, or the one in folder `path`.

    `threads`: workers to use; default and most: as many as it was compiled for.
    `level`: of a bundle for several levels of the CPU, the one to open (default: the best that this CPU can run).

    Raises EdgecError where there is no bundle, it is damaged, or this machine cannot run it: another CPU, no GPU.
    """
    return Model(path if isinstance(path, Bundle) else read_bundle(path), threads, level)


class Model:
    """One instance of a compiled model, with an arena of its own.

    Threads may share it, and then wait for each other; to run at the same time, each loads an instance of its own.
    `level` is the target whose kernels run, `bundle` describes these; `on_device`: whether an accelerator runs them.
    """

    def __init__(self, bundle: Bundle, threads: int | None = None, level: str | None = None) -> None:
        self.bundle = bundle
        self._handle: int | None = None
        self._address = 0  # of the ec_model, once there is one
        self._pool: c.c_void_p | None = None
        self._lock = Lock()
        if threads is not None and (not isinstance(threads, int) or threads < 1):
            raise EdgecError(f"threads must be 1 or more, got {threads!r}")
        self._rt = abi.runtime_library()
        self._handle, first = opened(bundle)
        desc = first if level is None else description(bundle, first, level)
        self._desc = desc.contents
        self._open(desc, arena_bytes=self._desc.arena_bytes)
        self._desc = c.cast(self._address, c.POINTER(c.POINTER(abi.Desc))).contents.contents  # ec_model.desc
        self.level = self._desc.target.decode()
        self.bundle = bundle.at(self.level)
        self._in = [self._view(self._rt.ec_input, i) for i in range(self._desc.n_inputs)]
        self._out = [self._view(self._rt.ec_output, i) for i in range(self._desc.n_outputs)]
        self.inputs = tuple(port for port, _ in self._in)
        self.outputs = tuple(port for port, _ in self._out)
        self._feed = [(port.name, view, view.dtype, view.shape) for port, view in self._in]
        self._results = [(i, port.name, port.count_axis, view) for i, (port, view) in enumerate(self._out)]
        self.steps = tuple(self._desc.steps[i].name.decode() for i in range(self._desc.n_steps))
        self.on_device = bool(self._desc.device)
        self.threads = min(threads or self._desc.threads, self._desc.threads)
        if self.threads > 1:
            self._start_pool()

    def __repr__(self) -> str:
        shown = [
            ", ".join(f"{p.name} {p.dtype}{list(p.shape)}" for p in ports) for ports in (self.inputs, self.outputs)
        ]
        return f"Model({self.bundle.name!r} on {self.level}: {' -> '.join(shown)})"

    def _open(self, desc: Any, arena_bytes: int) -> None:
        align = max(self._desc.arena_align, 1)
        memory = np.empty(arena_bytes + align, np.uint8)
        start = -memory.ctypes.data % align
        self.arena: npt.NDArray[np.uint8] = memory[start : start + max(arena_bytes, 1)]
        self._model = c.create_string_buffer(self._rt.ec_model_bytes() + 16)
        self._address = c.addressof(self._model) + -c.addressof(self._model) % 16
        with driver_for(self.bundle.manifest):
            self._check(self._rt.ec_open(self._address, desc, self.arena.ctypes.data, arena_bytes))

    def _check(self, status: int) -> None:
        if status >= 0:
            return
        message = f"{self.bundle.folder}: {self._rt.ec_strerror(status).decode()}"
        if missing := self._rt.ec_missing_isa(c.byref(self._desc)):
            message += f": {', '.join(isa_names(missing))}; compile it for this machine with --target host"
        detail = self._rt.ec_device_error(c.byref(self._desc)).decode(errors="replace")
        if detail and status in abi.OF_DEVICES:
            message += f": {detail}"
        raise EdgecError(message)

    def _view(self, function: Any, index: int) -> tuple[Port, npt.NDArray[Any]]:
        tensor = function(self._address, index)
        io = tensor.io.contents
        kind, shape = _NUMPY[io.dtype], tuple(io.dims[i] for i in range(io.rank))
        buffer = (c.c_uint8 * io.bytes).from_address(tensor.data) if io.bytes else bytearray()
        view: npt.NDArray[Any] = np.ndarray(shape, kind, buffer)
        scaled = io.scale != 0
        scale, zero = (io.scale, io.zero_point) if scaled else (None, None)
        axis = io.count_axis if io.count_axis >= 0 else None
        return Port(io.name.decode(), kind.name, shape, scale, zero, axis), view

    def _start_pool(self) -> None:
        pool = c.c_void_p()
        self._check(self._rt.ec_pool_open(c.byref(pool), self.threads))
        self._pool = pool
        self._check(self._rt.ec_use_pool(self._address, pool))

    def run(self, inputs: Mapping[str, npt.ArrayLike]) -> dict[str, npt.NDArray[Any]]:
        """One inference: arrays by input name to arrays by output name, in the order of `outputs`.

        Element types and shapes must be those of `inputs`; an `EdgecError` says what differs. An output whose size
        depends on data is as long as this run made it.
        """
        with self._lock:
            self._write(inputs)
            status = self._rt.ec_run(self._address)
            if status < 0:
                self._check(status)
            return self._read()

    def _read(self) -> dict[str, npt.NDArray[Any]]:
        """Copies of the outputs, each as long as the run made it."""
        found = {}
        for index, name, axis, view in self._results:
            if axis is not None:
                view = cut(view, axis, self._rt.ec_output_count(self._address, index))
            found[name] = view.copy()
        return found

    def whole_outputs(self) -> dict[str, npt.NDArray[Any]]:
        """All memory of the outputs, of which the last run may have filled less."""
        return {port.name: view.copy() for port, view in self._out}

    def _write(self, inputs: Mapping[str, npt.ArrayLike]) -> None:
        if self._handle is None:
            raise EdgecError(f"{self.bundle.folder}: the model is closed")
        given: object = inputs
        if not isinstance(given, Mapping):
            example = ", ".join(f"{name!r}: array" for name, *_ in self._feed)
            raise EdgecError(f"inputs of type {type(given).__name__}; expected arrays by name: {{{example}}}")
        if len(inputs) != len(self._feed):
            check_names(inputs, [port.name for port in self.inputs])
        for name, view, dtype, shape in self._feed:
            array = inputs.get(name)
            if type(array) is not np.ndarray or array.dtype != dtype or array.shape != shape:
                array = self._accept(inputs, name, dtype, shape)
            view[...] = array

    def _accept(
        self, inputs: Mapping[str, npt.ArrayLike], name: str, dtype: np.dtype[Any], shape: tuple[int, ...]
    ) -> npt.NDArray[Any]:
        """What is not exactly right but means the same (lists, numpy scalars, other strides), or an error."""
        if name not in inputs:
            check_names(inputs, [port.name for port in self.inputs])
        given = inputs[name]
        try:
            array = np.asarray(given) if isinstance(given, (np.ndarray, np.generic)) else np.asarray(given, dtype)
        except (ValueError, TypeError, OverflowError) as error:
            raise EdgecError(f"input {name!r}: is not an array of {dtype}: {error}") from error
        array = known_as(array, dtype)
        if array.dtype != dtype:
            raise EdgecError(
                f"input {name!r}: element type {array.dtype}, expected {dtype}; convert it with .astype({dtype.name!r})"
            )
        if array.shape != shape:
            raise EdgecError(f"input {name!r}: shape {array.shape}, expected {shape}")
        return array

    def trace(
        self, inputs: Mapping[str, npt.ArrayLike], probes: list[tuple[int, int, int]]
    ) -> tuple[dict[str, npt.NDArray[Any]], list[bytes]]:
        """Run step by step; each probe (step, offset, bytes) gives the bytes of the arena, on an accelerator of the one
        there, after that step."""
        with self._lock:
            self._write(inputs)
            found: dict[int, bytes] = {}
            try:
                left = 1
                while left:
                    step = abi.Head.from_address(self._address).next
                    left = self._rt.ec_step_next(self._address)
                    self._check(left)
                    for i, (after, offset, size) in enumerate(probes):
                        if after == step:
                            found[i] = self._probe(offset, size)
            finally:
                self._rt.ec_restart(self._address)
            return self._read(), [found[i] for i in range(len(probes))]

    def _probe(self, offset: int, size: int) -> bytes:
        found = c.create_string_buffer(max(size, 1))
        self._check(self._rt.ec_read(self._address, abi.Ref(0, offset), found, size))
        return found.raw[:size]

    def benchmark(
        self, runs: int = 50, *, layers: bool = False, inputs: Mapping[str, npt.ArrayLike] | None = None
    ) -> Benchmark:
        """Time `runs` inferences in C after a first one. Inputs are written again before each, outside the timing."""
        return benchmark(self, runs, layers, inputs)

    def timed(self, inputs: Mapping[str, npt.ArrayLike], call: Callable[[Any, int], int]) -> None:
        """Write inputs, and call a function of the runtime (library, address of the ec_model) that times the model."""
        with self._lock:
            self._write(inputs)
            self._check(call(self._rt, self._address))

    def close(self) -> None:
        """End the threads, give back what the model has on a device, and unload the library. The arrays that `run`
        returned stay valid."""
        with self._lock:
            handle, self._handle = self._handle, None
        if handle is None:
            return
        self._in, self._out, self._feed, self._results = [], [], [], []
        if self._pool is not None:
            self._rt.ec_use_pool(self._address, None)
            self._rt.ec_pool_close(self._pool)
            self._pool = None
        self._rt.ec_close(self._address)
        _ctypes.dlclose(handle)

    def __enter__(self) -> Model:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_handle", None) is not None:
            self.close()
