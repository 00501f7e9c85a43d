"""Latency of bundles on an NVIDIA GPU beside PyTorch, in turns, with inputs and outputs on the device.

    python benchmarks/cuda.py [--batch 1 8] [--precision fp32 fp16] [--ways edgec,eager,tuned] MODEL.onnx ...

Each file is compiled for this machine's GPU and run through the driver. Where its name is that of a network in
benchmarks/torch_nets.py, PyTorch runs that: eager with a CUDA graph, and torch.compile (max-autotune); tf32 is off. In
each round every way runs for about SLICE seconds; medians over all rounds, in milliseconds. Before that the outputs
are compared with those of ONNX Runtime on the CPU: the greatest difference over the output's largest magnitude.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

SLICE, ROUNDS = 0.15, 5
LENGTH = 128  # of sequences, where the model leaves it open
Job = tuple[str, int, str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", help="ONNX files")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--precision", nargs="+", default=["fp32", "fp16"], choices=["fp32", "fp16"])
    parser.add_argument("--ways", default="edgec,eager,tuned")
    parser.add_argument("--layers", action="store_true", help="show the steps that take longest")
    parser.add_argument("--json", metavar="FILE")
    args = parser.parse_args()
    from edgec.compiler.bundle.cuda_emulation import has_driver

    if not has_driver():
        parser.error("no NVIDIA driver here (libcuda.so.1)")
    jobs = [(m, b, p) for m in args.models for b in args.batch for p in args.precision]
    rows = []
    with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor() as pool:
        made = [pool.submit(build, job, str(Path(folder, str(k)))) for k, job in enumerate(jobs)]
        for job, bundle in zip(jobs, made, strict=True):
            rows.append(measure(job, bundle, args.ways.split(","), args.layers))
            print(json.dumps(rows[-1]), flush=True)
            if args.json:
                Path(args.json).write_text(json.dumps(rows, indent=1))


def batched(path: str, batch: int) -> Any:
    """The model for a batch: first dimensions of inputs, and of shapes that are written as constants."""
    import onnx
    from onnx import numpy_helper

    proto = onnx.load(path)
    names = {n.input[1] for n in proto.graph.node if n.op_type == "Reshape"}
    names |= {i for n in proto.graph.node if n.op_type == "Where" for i in n.input[1:]}  # of an Expand
    shapes = [i for i in proto.graph.initializer if i.name in names]
    shapes += [n.attribute[0].t for n in proto.graph.node if n.op_type == "Constant" and n.output[0] in names]
    for tensor in shapes:
        dims = numpy_helper.to_array(tensor).copy()
        if dims.size > 1 and dims[0] == 1 and dims.dtype == np.int64:
            dims[0] = batch if (dims[1:] == -1).all() else 0  # 0: as it comes in
            tensor.CopyFrom(numpy_helper.from_array(dims, tensor.name))
    weights = {i.name for i in proto.graph.initializer}
    for i in proto.graph.input:
        if i.name not in weights:
            for k, d in enumerate(i.type.tensor_type.shape.dim):
                d.dim_value = batch if k == 0 else d.dim_value or LENGTH
    for o in proto.graph.output:
        o.type.tensor_type.ClearField("shape")
    del proto.graph.value_info[:]
    return proto


def arch() -> str:
    """Of this machine's first GPU."""
    import ctypes

    driver = ctypes.CDLL("libcuda.so.1")
    major, minor = ctypes.c_int(), ctypes.c_int()
    driver.cuInit(0)
    driver.cuDeviceGetAttribute(ctypes.byref(major), 75, 0)
    driver.cuDeviceGetAttribute(ctypes.byref(minor), 76, 0)
    return f"sm_{10 * major.value + minor.value}"


def build(job: Job, out: str) -> tuple[str, float]:
    """The bundle's folder, and the seconds that it took to compile."""
    import edgec

    model, batch, precision = job
    started = time.perf_counter()
    edgec.compile(batched(model, batch), "cuda", out, name="model", precision=precision, arch=arch())
    return out, time.perf_counter() - started


def measure(job: Job, made: Any, ways: list[str], layers: bool) -> dict[str, Any]:
    model, batch, precision = job
    row: dict[str, Any] = {"model": Path(model).stem, "batch": batch, "precision": precision}
    try:
        folder, row["compile_s"] = made.result()
        runs: dict[str, Callable[[], Any]] = {}
        if "edgec" in ways:
            loaded, inputs = opened(folder)
            row["difference"] = difference(model, batch, loaded, inputs)
            if layers:
                row["classes"] = classes(loaded)
            runs["edgec"] = resident(loaded)
        runs |= torch_runs(row["model"], batch, precision == "fp16", ways)
        row |= timed(runs)
    except Exception as error:  # the others are measured all the same, and this one says why it is not
        row["error"] = f"{type(error).__name__}: {error}"[:500]
    return row


def opened(folder: str) -> tuple[Any, dict[str, Any]]:
    import edgec

    rng = np.random.default_rng(0)
    loaded = edgec.load(folder)
    inputs: dict[str, Any] = {}
    for port in loaded.inputs:
        kind = np.dtype(port.dtype)
        whole = np.ones(port.shape, kind) if "mask" in port.name else rng.integers(0, 200, port.shape).astype(kind)
        inputs[port.name] = rng.standard_normal(port.shape).astype(kind) if kind.kind == "f" else whole
    return loaded, inputs


def difference(model: str, batch: int, loaded: Any, inputs: dict[str, Any]) -> float:
    import onnxruntime as ort

    proto = batched(model, batch)
    wanted = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, inputs)
    got = loaded.run(inputs)
    shares = [
        np.abs(g.astype(float) - w).max() / max(np.abs(w).max(), 1e-9)
        for g, w in zip(got.values(), wanted, strict=True)
    ]
    return float(max(shares))


def resident(loaded: Any) -> Callable[[], Any]:
    """A run without copies from and to the host."""
    runtime, model = loaded._rt, loaded._address
    if status := runtime.ec_cuda_use(model, None, 0):
        raise RuntimeError(f"ec_cuda_use: {status}")

    def run() -> None:
        if status := runtime.ec_run_async(model) or runtime.ec_wait(model):
            raise RuntimeError(f"the run failed: {status}")

    return run


def classes(loaded: Any) -> dict[str, dict[str, float]]:
    """By kernel: steps, microseconds of all of them, and what share that is of the device's rates: of its multiply-adds
    in the type of the kernel, and of its memory. Steps are timed one by one, which takes a few microseconds each."""
    from edgec.compiler.target import find_target
    from edgec.compiler.target_flags import with_archs

    gpu = with_archs(find_target("cuda"), arch()).gpu
    assert gpu is not None
    found: dict[str, dict[str, float]] = {}
    for (_, ms), step in zip(loaded.benchmark(runs=10, layers=True).layers, loaded.bundle.steps, strict=True):
        row = found.setdefault(step["kernel"], {"steps": 0, "us": 0.0, "arithmetic": 0.0, "memory": 0.0})
        rate = gpu.f16_fma if "_mma" in step["kernel"] else gpu.f32_fma
        row["steps"] += 1
        row["us"] += 1e3 * ms
        row["arithmetic"] += step["macs"] / (rate * gpu.multiprocessors * gpu.ghz * 1e3)
        row["memory"] += step["bytes_moved"] / (gpu.ram_gbytes * 1e3)
    for row in found.values():
        row |= {key: row[key] / row["us"] for key in ("arithmetic", "memory")}
    return found


def torch_runs(name: str, batch: int, half: bool, ways: list[str]) -> dict[str, Callable[[], Any]]:
    wanted = [way for way in ("eager", "tuned") if way in ways]
    if not wanted:
        return {}
    import torch

    from benchmarks import torch_nets

    if name not in torch_nets.NETWORKS:
        return {}
    runs = {}
    for way in wanted:
        run = getattr(torch_nets, way)(name, batch, half)
        runs[way] = lambda run=run: (run(), torch.cuda.synchronize())
    return runs


def timed(runs: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """Median milliseconds of each, measured in turns."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        for _ in range(10):
            run()
    for _ in range(ROUNDS):
        for name, run in runs.items():
            end = time.perf_counter() + SLICE
            while (start := time.perf_counter()) < end:
                run()
                times[name].append(time.perf_counter() - start)
    return {name: 1e3 * statistics.median(found) for name, found in times.items()}


if __name__ == "__main__":
    main()
