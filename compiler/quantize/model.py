"""`edgec quantize`: from an ONNX file to a quantized one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..calibration.request import SETTING, requested
from ..errors import EdgecError
from ..exporter import save_model
from ..importer import import_model
from ..pipeline import run_pipeline
from ..plugins import load_plugins
from ..session import Session
from .report import Report
from .settings import quantizing, wanted

PASSES = "canonicalize, fold, quantize"


def quantize_model(
    model: str | Path,
    out: str | Path,
    *,
    calib: Any,
    calib_prep: str | None = None,
    method: str = "auto",
    max_drop: float | None = None,
    score: Any = None,
    passes: str | None = None,
    shapes: Mapping[str, Sequence[Any]] | None = None,
    dims: Mapping[str, int] | None = None,
    bind: Mapping[str, Any] | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Report:
    """Write the quantized model to `out`; the report says what became of each layer."""
    load_plugins()
    settings = {SETTING: requested(calib, calib_prep, "quantize"), "quantize": wanted("int8", max_drop, score)}
    session = Session(settings={**settings, "progress": progress})
    spec = quantizing(passes or PASSES, PASSES, method)
    graph = import_model(model, shapes=shapes or {}, dims=dims or {}, binds=bind or {}, notice=session.note)
    graph = run_pipeline(graph, spec, session)
    report = session.quantization
    if not isinstance(report, Report) or not report.layers:
        raise EdgecError(f"{model}: {session.notes[-1] if session.notes else 'nothing in it can be quantized'}")
    report.notes = list(dict.fromkeys([*session.notes, *report.notes]))
    save_model(graph, out)
    return report
