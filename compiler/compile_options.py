"""What a compilation is asked for, as users say it and before it is checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .calibration.data import Source
from .quantize.settings import Score
from .units import Limit


@dataclass(frozen=True, kw_only=True)
class CompileOptions:
    """None: not said. `edgec.compile` explains each field."""

    target: str | Path = "host"
    out: str | Path | None = None
    name: str | None = None
    shapes: Mapping[str, Sequence[Any]] | None = None
    dims: Mapping[str, int] | None = None
    bind: Mapping[str, Any] | None = None
    threads: int = 1
    passes: str | None = None
    weights: str | None = None
    precision: str | None = None
    arch: str | None = None
    tune: float | None = None
    tune_db: str | Path | None = None
    quantize: str | None = None
    calib: Source | None = None
    calib_prep: str | None = None
    max_drop: float | None = None
    score: str | Score | None = None
    max_latency: Limit = None
    max_flash: Limit = None
    max_ram: Limit = None
    memory: str | Path | None = None
    optimize: str | None = None
    self_test: bool | str | Path = False
