"""edgec: compiles a trained ONNX model into a native library for the edge.

bundle = edgec.compile("model.onnx", target="rpi5", out="build/")
model = edgec.load("build/")
outputs = model.run({"input": x})
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgec.compiler.errors import EdgecError, IRError, UnsupportedModel

if TYPE_CHECKING:
    import onnx

    from edgec.compiler.bundle import Bundle
    from edgec.compiler.compress.compressor import BudgetError, Compressed
    from edgec.compiler.execution.model import Model, load

__version__ = "0.1.0"
__all__ = [
    "BudgetError",
    "Bundle",
    "Compressed",
    "EdgecError",
    "IRError",
    "Model",
    "UnsupportedModel",
    "__version__",
    "compile",
    "compress",
    "load",
]

_COMPRESSOR, _MODEL = "edgec.compiler.compress.compressor", "edgec.compiler.execution.model"
_LAZY = {"BudgetError": _COMPRESSOR, "Compressed": _COMPRESSOR}
_LAZY |= {"Bundle": "edgec.compiler.bundle", "Model": _MODEL, "load": _MODEL}


def compile(
    model: str | Path | onnx.ModelProto,
    target: str | Path = "host",
    out: str | Path | None = None,
    *,
    name: str | None = None,
    shapes: Mapping[str, Sequence[Any]] | None = None,
    dims: Mapping[str, int] | None = None,
    bind: Mapping[str, Any] | None = None,
    threads: int = 1,
    passes: str | None = None,
    weights: str | None = None,
    precision: str | None = None,
    arch: str | None = None,
    tune: float | None = None,
    tune_db: str | Path | None = None,
    quantize: str | None = None,
    calib: str | Path | Mapping[str, Any] | Iterable[Any] | Callable[[], Iterable[Any]] | None = None,
    calib_prep: str | None = None,
    max_drop: float | None = None,
    score: str | Callable[[Callable[[Any], Any]], float] | None = None,
    max_latency: str | float | None = None,
    max_flash: str | float | None = None,
    max_ram: str | float | None = None,
    memory: str | Path | None = None,
    optimize: str | None = None,
    self_test: bool | str | Path = False,
    progress: Callable[[str, int, int], None] | None = None,
) -> Bundle:
    """Compile an ONNX model into a bundle: libraries, header, manifest and report in one folder.

    target    a name of `edgec targets`, or a path to a .toml file of your own
    out       the folder to write (default: the model's name, in the current folder); replaced as a whole at the end
    name      C name of the model: symbols and files (default: from the file's name)
    shapes    input name -> shape, where the model leaves it open; the result of a random operator becomes an input so
    dims      symbolic dimension -> size
    bind      input name -> value that is fixed at compile time: the input is then gone
    threads   workers that one inference may use
    passes    pipeline text, see `edgec passes`
    weights   f16 or int8: constant weights are stored so and widened as kernels read them; arithmetic stays f32
    precision  fp32 or fp16: what values are stored in on a GPU; sums are formed in f32, inputs and outputs stay
    arch      GPU architectures to compile for, such as sm_80,sm_90 (default: the target's); the last serves newer ones
    tune      seconds to measure kernels on this machine before they are chosen
    tune_db   file of measured times that are used, and with `tune` written (default then: in the user's cache folder)
    quantize  int8: convolutions and matrix products on 8 bits; quantized (QDQ) models compile so by themselves
    calib     data to choose scales by: .npz, a folder of .npy, .npz or pictures, samples, or a function that makes them
    calib_prep  how pictures become inputs, such as torch, or scale=0.0039,order=bgr,fit=stretch
    max_drop  how much worse the quantized model may be: share of the samples that it answers otherwise than the float
              model; points of `score`, where that is given. Layers stay f32 until it holds
    score     function(run) -> number, larger is better, or script.py:function; run({name: array}) gives the outputs
    max_latency, max_flash, max_ram  what the bundle may take: modelled time ("20ms", or seconds), weights and code
              ("900K", or bytes), arena; a larger one is not written
    memory    file of the board's memory regions, [[memory]] tables in TOML, in place of the target's own
    optimize  speed (default) or size: kernels are as fast as they can be, or on a CPU small at some cost of time
    self_test  True, or a .npz file of inputs: the library also holds what the steps compute with them, for ec_selftest
    progress  called with (stage, done, total) as work goes on

    Raises EdgecError for whatever is wrong with model or options; UnsupportedModel lists every node that edgec refuses.
    """
    from edgec.compiler.compile_options import CompileOptions
    from edgec.compiler.driver import compile_model

    asked = CompileOptions(
        target=target, out=out, name=name, shapes=shapes, dims=dims, bind=bind, threads=threads, passes=passes,
        weights=weights, precision=precision, arch=arch, tune=tune, tune_db=tune_db, quantize=quantize,
        calib=calib, calib_prep=calib_prep, max_drop=max_drop, score=score, max_latency=max_latency,
        max_flash=max_flash, max_ram=max_ram, memory=memory, optimize=optimize, self_test=self_test,
    )  # fmt: skip
    return compile_model(model, asked, progress)


def compress(
    model: str | Path | onnx.ModelProto,
    target: str | Path = "host",
    out: str | Path | None = None,
    *,
    calib: str | Path | Mapping[str, Any] | Iterable[Any] | Callable[[], Iterable[Any]],
    max_latency: str | float | None = None,
    max_flash: str | float | None = None,
    max_ram: str | float | None = None,
    max_drop: float | None = None,
    score: str | Callable[[Callable[[Any], Any]], float] | None = None,
    methods: Sequence[str] | None = None,
    time: str | float = "10m",
    jobs: int | None = None,
    scheduler: str | None = None,
    calib_prep: str | None = None,
    name: str | None = None,
    shapes: Mapping[str, Sequence[Any]] | None = None,
    dims: Mapping[str, int] | None = None,
    bind: Mapping[str, Any] | None = None,
    threads: int = 1,
    progress: Callable[[str], None] | None = None,
) -> Compressed:
    """Find what keeps a float model within a budget: int8, fewer channels, low rank, zeros; write the bundle of it.

    Within limits of latency, flash or RAM the model with the least drop is chosen, with `max_drop` alone the fastest.
    `out` gets the bundle, `<name>.compressed.onnx`, which compiles to it, and `report.html`.

    max_latency, max_flash, max_ram  "20ms" or seconds, "900K" or bytes of weights and code, bytes of the arena; latency
                is measured where the target is this machine, else modelled, on one core
    max_drop    share of the samples that may be answered otherwise than by the float model; points of `score`
    methods     some of int8, channels, low-rank, sparsity, small-code (default: all)
    time        that the search may take; what was begun is ended
    jobs        candidates at a time, each in a process of its own (default: as many as cores; 1: in this one)
    scheduler   address of a Dask cluster whose workers evaluate candidates instead: pip install 'edgec[cluster]'
    progress    called with a line for each candidate

    The others are those of `compile`. Raises BudgetError, an EdgecError, where no candidate meets the limits.
    """
    from edgec.compiler.compress.compressor import compress_model
    from edgec.compiler.compress.options import CompressOptions

    asked = CompressOptions(
        target=str(target), out=out, calib=calib, calib_prep=calib_prep, max_latency=max_latency, max_flash=max_flash,
        max_ram=max_ram, max_drop=max_drop, score=score, methods=methods, time=time, jobs=jobs, scheduler=scheduler,
        name=name, shapes=shapes, dims=dims, bind=bind, threads=threads,
    )  # fmt: skip
    return compress_model(model, asked, progress)


def __getattr__(name: str) -> Any:
    """`import edgec` costs milliseconds: what needs numpy is imported when it is used."""
    if name not in _LAZY:
        raise AttributeError(f"module 'edgec' has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(_LAZY[name]), name)
    return value


def __dir__() -> list[str]:
    return __all__
