"""What a compression is asked for, as users say it, and what of it is left once it is checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..calibration.data import Source
from ..quantize.settings import Score, checked_score
from ..target_flags import check_threads
from ..units import Limit, long_time
from .search.limits import Limits, limits_of
from .search.methods import methods_of

SECONDS = 600.0


@dataclass(frozen=True, kw_only=True)
class CompressOptions:
    """None: not said. `edgec.compress` explains each field."""

    target: str = "host"
    out: str | Path | None = None
    calib: Source | None = None
    calib_prep: str | None = None
    max_latency: Limit = None
    max_flash: Limit = None
    max_ram: Limit = None
    max_drop: float | None = None
    score: str | Score | None = None
    methods: Sequence[str] | None = None
    time: str | float = SECONDS
    jobs: int | None = None
    scheduler: str | None = None
    name: str | None = None
    shapes: Mapping[str, Sequence[Any]] | None = None
    dims: Mapping[str, int] | None = None
    bind: Mapping[str, Any] | None = None
    threads: int = 1


@dataclass(frozen=True)
class Settings:
    """What the search is given; `seconds` that it may take."""

    limits: Limits
    score: str | Score | None
    methods: Sequence[str] | None
    threads: int
    seconds: float


def checked(asked: CompressOptions) -> Settings:
    """Raises EdgecError for what no model can be compressed with."""
    limits = limits_of(asked.max_latency, asked.max_flash, asked.max_ram, asked.max_drop)
    checked_score(asked.score)  # processes load it by its name
    check_threads(asked.threads)
    methods_of(asked.methods, list(limits.given()))
    return Settings(limits, asked.score, asked.methods, asked.threads, long_time("time", asked.time))
