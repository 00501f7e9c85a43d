"""Which calibration data a user gives, and the passes' way to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..errors import EdgecError
from ..ir import Graph
from ..session import Session
from .data import Calibration, Source, calibration
from .images import preparation

SETTING = "calibration"  # of a session: a Request, or None
EXPECTED = "expected calib=data.npz (--calib data.npz)"
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Request:
    """The data, and how pictures become inputs."""

    source: Source
    prepare: str = ""


def requested(calib: Source | None, prepare: str | None, user: str | None = None) -> Request | None:
    """What a user asks for, checked; None for nothing, where no `user` of the data needs any."""
    if calib is None:
        if user:
            raise EdgecError(f"{user}: no calibration data is given; {EXPECTED}")
        if prepare is not None:
            raise EdgecError("calib_prep: is given without calibration data; expected calib=pictures/ (--calib)")
        return None
    if prepare:
        preparation(prepare)
    return Request(calib, prepare or "")


def calibration_of(session: Session, graph: Graph) -> Calibration | None:
    """The session's calibration data as feeds of a graph; None where there are none."""
    request = session.settings.get(SETTING)
    return calibration(request.source, graph, request.prepare) if isinstance(request, Request) else None


def needed_calibration(session: Session, graph: Graph, what: str) -> Calibration:
    """The session's calibration data as feeds of a graph; an error that names `what` needs them."""
    found = calibration_of(session, graph)
    if found is None:
        raise EdgecError(f"{what}: no calibration data is given; {EXPECTED}")
    return found


def progress_of(session: Session) -> Progress:
    """Where progress is told: stage, done, total."""
    tell = session.settings.get("progress")
    return tell if callable(tell) else _silent


def _silent(stage: str, done: int, total: int) -> None:
    pass
