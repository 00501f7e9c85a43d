"""How a compressed model compares with the float one: time, in turns on this machine, and answers."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from math import inf, log10

import numpy as np

from ... import toolchain as tools
from ...execution import abi as abi
from ...execution.benchmark import least
from ...execution.model import Model
from ...isa import isa_names
from ...ops.common import Tensor
from ...ports import Port
from ...quantize.fallback import disagreement
from ...target import Target

SECONDS = 1.0  # that a pair of models is timed for
ROUNDS = 4, 300  # at least and at most
RUNS = 4  # of one model in a round

Feed = Mapping[str, Tensor]


def fed(model: Model, feed: Feed) -> Feed:
    """A feed of the float model as a model takes it: where inputs are bytes, by their scales."""
    return {port.name: _as_bytes(port, feed[port.name]) if port.scale else feed[port.name] for port in model.inputs}


def _as_bytes(port: Port, x: Tensor) -> Tensor:
    assert port.scale is not None
    kind = np.dtype(port.dtype)
    steps = np.rint(np.asarray(x, np.float32) / np.float32(port.scale)) + (port.zero_point or 0)
    return np.asarray(np.clip(steps, np.iinfo(kind).min, np.iinfo(kind).max).astype(kind))


def samples(stacked: Mapping[str, Tensor]) -> Iterator[Feed]:
    """One feed after the other."""
    for k in range(min(map(len, stacked.values()), default=0)):
        yield {name: a[k] for name, a in stacked.items()}


def runs_here(target: Target) -> bool:
    """Whether this machine can run what is compiled for a target."""
    if not tools.runs_here(target.triple):
        return False
    return target.programs[-1].cpu.isa <= set(isa_names(abi.runtime_library().ec_cpu_isa()))


def measured_here(target: Target) -> bool:
    """Whether this machine's times are the target's: `host`, and x86 levels that it has. Boards are other machines."""
    return target.name == "host" or (target.triple.startswith("x86_64") and runs_here(target))


def paired(model: Model, reference: Model, feed: Feed) -> tuple[float, float]:
    """Least milliseconds of both, which run in turns: how fast the machine is at the moment counts for both."""
    best = [inf, inf]
    end = time.perf_counter() + SECONDS
    for number in range(ROUNDS[1]):
        if number >= ROUNDS[0] and time.perf_counter() > end:
            break
        for k, one in enumerate((model, reference)):
            best[k] = min(best[k], least(one, RUNS, fed(one, feed)))
    return best[0], best[1]


def compared(model: Model, reference: Model, feeds: Iterable[Feed]) -> tuple[float, float]:
    """Share of the samples that are answered otherwise, and signal to noise of the worst output in dB."""
    shares: list[float] = []
    names = [port.name for port in reference.outputs]
    signal, noise = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0)
    for feed in feeds:
        want, got = reference.run(feed), model.run(fed(model, feed))
        shares.append(disagreement([got[name] for name in names], [want[name] for name in names]))
        for name in names:
            if want[name].dtype.kind == "f":
                exact = want[name].astype(np.float64)
                signal[name] += float(np.square(exact).sum())
                noise[name] += float(np.square(exact - got[name]).sum())
    ratios = [signal[n] / noise[n] for n in names if noise[n] > 0 < signal[n]]
    return float(np.mean(shares)), min((10 * log10(r) for r in ratios), default=inf)
