"""What runs a model: edgec and the engines that it is compared with, each in a process of its own.

A row of `ENGINES` turns (ONNX file, inputs, threads, scratch folder) into a function that runs one inference in fp32.
An engine that is not installed, or refuses the model, raises.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Feed = Mapping[str, npt.NDArray[Any]]
Run = Callable[[], Any]


def edgec(model: Path, feed: Feed, threads: int, folder: Path) -> Run:
    import edgec

    target = os.environ.get("EDGEC_TARGET", "host")
    shapes = {name: array.shape for name, array in feed.items()}
    edgec.compile(model, target, folder / "bundle", name="model", shapes=shapes, threads=threads)
    compiled = edgec.load(folder / "bundle", threads=threads)
    return lambda: compiled.run(feed)


def onnxruntime(model: Path, feed: Feed, threads: int, folder: Path) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 4
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, dict(feed))


def openvino(model: Path, feed: Feed, threads: int, folder: Path) -> Run:
    import openvino

    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",  # it would take bf16 where the CPU has it
    }
    core = openvino.Core()
    network = core.read_model(str(model))
    network.reshape({name: list(array.shape) for name, array in feed.items()})
    request = core.compile_model(network, "CPU", settings).create_infer_request()
    return lambda: request.infer(dict(feed))


def mnn(model: Path, feed: Feed, threads: int, folder: Path) -> Run:
    import MNN

    if any(array.dtype != np.float32 for array in feed.values()):
        raise NotImplementedError("inputs other than f32")
    command = ["mnnconvert", "-f", "ONNX", "--modelFile", str(model), "--MNNModel", "m.mnn", "--bizCode", "x"]
    _quietly(command, folder)
    net = MNN.Interpreter(str(folder / "m.mnn"))
    session = net.createSession({"numThread": threads, "backend": "CPU", "precision": "high"})
    pairs = []
    for name, array in feed.items():
        tensor = net.getSessionInput(session, name)
        net.resizeTensor(tensor, array.shape)
        kind = MNN.Tensor_DimensionType_Caffe
        pairs.append((tensor, MNN.Tensor(array.shape, MNN.Halide_Type_Float, array, kind)))
    net.resizeSession(session)

    def run() -> None:
        for tensor, value in pairs:
            tensor.copyFrom(value)
        net.runSession(session)

    return run


def ncnn(model: Path, feed: Feed, threads: int, folder: Path) -> Run:
    import ncnn

    if len(feed) != 1:
        raise NotImplementedError("several inputs")
    (array,) = feed.values()
    shutil.copyfile(model, folder / "m.onnx")
    _quietly(["pnnx", "m.onnx", f"inputshape=[{','.join(map(str, array.shape))}]", "fp16=0"], folder)
    net = ncnn.Net()
    net.opt.num_threads = threads
    for option in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_storage"):
        setattr(net.opt, option, False)
    if net.load_param(str(folder / "m.ncnn.param")) or net.load_model(str(folder / "m.ncnn.bin")):
        raise RuntimeError("ncnn refused the model")
    source, sinks = net.input_names()[0], list(net.output_names())

    def run() -> list[Any]:
        extractor = net.create_extractor()
        extractor.input(source, ncnn.Mat(array[0]).clone())
        return [extractor.extract(sink)[1] for sink in sinks]

    return run


ENGINES: dict[str, Callable[[Path, Feed, int, Path], Run]] = {
    engine.__name__: engine for engine in (edgec, onnxruntime, openvino, mnn, ncnn)
}
TITLES = {"edgec": "edgec", "onnxruntime": "ONNX Runtime", "openvino": "OpenVINO", "mnn": "MNN", "ncnn": "ncnn"}


def _quietly(command: list[str], folder: Path) -> None:
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


class Engine:
    """An engine's process. Its answer to each order is a value, or an exception's text as a RuntimeError here."""

    def __init__(self, name: str, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, name, threads), daemon=True)
        self.process.start()
        theirs.close()

    def load(self, model: Path, feed: Feed) -> float:
        """Seconds until the first inference is done: conversion and compilation count."""
        return float(self._ask("load", model, feed))

    def run(self, seconds: float) -> float:
        """The median of the latencies within so many seconds, in milliseconds."""
        return float(self._ask("run", seconds))

    def stop(self) -> None:
        self.pipe.close()
        self.process.join()

    def _ask(self, *order: object) -> Any:
        try:
            self.pipe.send(order)
            state, value = self.pipe.recv()
        except (EOFError, OSError):
            raise RuntimeError("its process died") from None
        if state == "error":
            raise RuntimeError(value)
        return value


def _serve(pipe: Connection, name: str, threads: int) -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    if "VERBOSE" not in os.environ:
        os.dup2(null, 2)
    run: Run | None = None
    with tempfile.TemporaryDirectory(prefix="edgec-bench-") as scratch:
        while True:
            try:
                order = pipe.recv()
            except EOFError:
                return
            try:
                if order[0] == "load":
                    run = None
                    start = time.perf_counter()
                    folder = Path(tempfile.mkdtemp(dir=scratch))
                    run = ENGINES[name](order[1], order[2], threads, folder)
                    run()
                    pipe.send(("ok", time.perf_counter() - start))
                elif run is not None:
                    pipe.send(("ok", _median_ms(run, order[1])))
            except Exception as error:
                pipe.send(("error", f"{type(error).__name__}: {error}"))


def _median_ms(run: Run, seconds: float) -> float:
    run()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e3
