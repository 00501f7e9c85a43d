"""Inputs that a user gives to a compiled model, in every form that calibration data may have."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from ..calibration.data import Calibration, Feed, Source
from ..calibration.images import preparation
from ..dtypes import of_numpy
from ..errors import EdgecError
from ..ir import Type
from ..ports import Port, named_dtype


def samples(inputs: Source, ports: Sequence[Port], prepare: str = "") -> Iterator[Feed]:
    """Every sample that is given, checked against the inputs of a model."""
    types = {port.name: Type(of_numpy(named_dtype(port.dtype)), port.shape) for port in ports}
    if prepare:
        preparation(prepare)  # refuses wrong words where no picture is read too
    return Calibration(inputs, types, prepare, option="inputs", called="inputs", finite=False).feeds()


def sample(inputs: Source, ports: Sequence[Port], prepare: str = "") -> Feed:
    """The one sample that is given."""
    feed, *more = islice(samples(inputs, ports, prepare), 2)
    if more:
        where = inputs if isinstance(inputs, (str, Path)) else "inputs"
        shapes = ", ".join(f"{port.name} {list(port.shape)}" for port in ports)
        raise EdgecError(f"{where}: more than one sample is given; expected {shapes}")
    return feed
