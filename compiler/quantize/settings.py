"""What a user asks of quantization, checked; how it enters a pipeline."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any

from ..calibration.data import load_function
from ..errors import EdgecError, nearest
from ..pipeline import Stage, parse_pipeline, show_pipeline
from .ranges import METHODS

KINDS = ("int8",)
# passes that make a float model smaller, and why they come before `quantize`
SMALLER = dict.fromkeys(("prune", "low-rank"), "it works on a float model")
Score = Callable[[Callable[[Any], Any]], float]


@dataclass(frozen=True)
class Wanted:
    """How much worse than the float model the quantized one may be.

    max_drop  share of the float model's answers (0.01: one in a hundred) that may be lost; with `score`, points of it
    score     function(run) -> number, larger is better; `run` takes a feed and gives the outputs by name
    """

    max_drop: float | None = None
    score: Score | None = None


def wanted(quantize: str | None, max_drop: object, score: object) -> Wanted | None:
    """The request; None where nothing is to be quantized."""
    if quantize is None:
        for flag, value in (("max_drop", max_drop), ("score", score)):
            if value is not None:
                raise EdgecError(f"{flag}: is given without quantize; expected quantize=int8 (--quantize int8)")
        return None
    if quantize not in KINDS:
        raise EdgecError(f"quantize: {quantize!r} is no way to quantize; expected {' or '.join(KINDS)}")
    drop, function = checked_drop(max_drop), checked_score(score)
    if function is not None and drop is None:
        raise EdgecError("score: is given without max_drop; expected how much of the score may be lost (--max-drop)")
    return Wanted(drop, function)


def checked_drop(max_drop: object) -> float | None:
    """How much worse a model may be than the float one."""
    if max_drop is None:
        return None
    if isinstance(max_drop, bool) or not isinstance(max_drop, (int, float)) or not isfinite(max_drop) or max_drop < 0:
        raise EdgecError(f"max_drop: {max_drop!r}; expected a number that is not negative")
    return float(max_drop)


def checked_score(score: object) -> Score | None:
    """The function, which may be given as `script.py:function`."""
    if score is None:
        return None
    if isinstance(score, str):
        return load_function(score, "--score")
    if not callable(score):
        raise EdgecError(f"score: {score!r}; expected a function, or script.py:function")
    return score


def quantizing(spec: str, default: str, method: str = "auto") -> str:
    """The pipeline with `quantize` where constants have been folded, and channels and rank are gone."""
    if method not in METHODS and method != "auto":
        raise EdgecError(f"calibration method {method!r}{nearest(method, ['auto', *METHODS])}")
    stages = parse_pipeline(spec, default)
    names = [stage.row.name for stage in stages]
    if "quantize" not in names:
        folded = names.index("fold") + 1 if "fold" in names else 0
        place = max([folded, *(k for k, name in enumerate(names, 1) if name in SMALLER)])
        stages[place:place] = parse_pipeline("quantize")
    return show_pipeline([_by(method, stage) if stage.row.name == "quantize" else stage for stage in stages])


def _by(method: str, stage: Stage) -> Stage:
    if method == "auto":
        return stage
    if "method" in stage.options:
        raise EdgecError(f"method: {method!r} is given, and the pipeline has {stage}")
    return replace(stage, options={"method": method, **stage.options})
