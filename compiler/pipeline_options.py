"""How options of a compilation change its pipeline: passes that store weights, compute in halves, or fit the arena."""

from __future__ import annotations

from collections.abc import Sequence

from .calibration.data import Source
from .errors import EdgecError
from .pipeline import Stage, find_pass, parse_pipeline, show_pipeline
from .quantize.settings import Wanted, quantizing
from .target import Target

STORES = ("f16", "int8", "int4")  # how the option `weights` may store them
PRECISIONS = ("fp32", "fp16")


def pipeline_for(
    target: Target,
    passes: str | None,
    weights: str | None,
    precision: str | None,
    request: Wanted | None,
    fits: bool,
    calib: Source | None,
) -> str:
    """The pipeline of a compilation: the user's or the target's, with what other options add; `fits`: to some RAM."""
    if not isinstance(passes, str | None):
        raise EdgecError(f"passes: {passes!r}; expected text, such as 'canonicalize, fold, fuse, layout, plan'")
    spec = storing(passes or target.pipeline, target, weights)
    spec = computing(spec, target, precision)
    spec = quantizing(spec, target.pipeline) if request else spec
    spec = fitting(spec, target) if fits else spec
    if calib is not None and not any(stage.row.calibrated for stage in parse_pipeline(spec, target.pipeline)):
        raise EdgecError("calib: is given, and no pass uses it; expected quantize=int8 (--quantize int8)")
    return spec


def storing(spec: str, target: Target, weights: str | None) -> str:
    """The pipeline, checked; weights are stored in fewer bits before kernels are made of nodes."""
    stages = parse_pipeline(spec, target.pipeline)
    if weights is None:
        return spec
    if weights not in STORES:
        raise EdgecError(f"weights: {weights!r} is no way to store them; f16, int8 or int4")
    return _before_kernels(stages, f"weights={weights}", "weights", f"weights{{store={weights}}}")


def computing(spec: str, target: Target, precision: str | None) -> str:
    """The pipeline with what makes the model compute in `precision`."""
    if precision in (None, "fp32"):
        return spec
    if precision not in PRECISIONS:
        raise EdgecError(f"precision: {precision!r} is none; {' or '.join(PRECISIONS)}, and int8 by quantize='int8'")
    if not target.gpu:
        raise EdgecError(f"precision: {target.name} computes in fp32; fp16 is for targets with a GPU")
    return _before_kernels(parse_pipeline(spec, target.pipeline), f"precision={precision}", "half", "half")


def fitting(spec: str, target: Target) -> str:
    """The pipeline with what keeps the arena within bounds, where it has none of its own."""
    stages = parse_pipeline(spec, target.pipeline)
    names = [stage.row.name for stage in stages]
    if target.gpu or "patches" in names or "layout" not in names:
        return spec
    place = names.index("layout") + 1
    return show_pipeline([*stages[:place], Stage(find_pass("patches"), {}), *stages[place:]])


def _before_kernels(stages: Sequence[Stage], option: str, name: str, stage: str) -> str:
    """A pipeline with one more stage, the last before kernels are made of nodes."""
    names = [stage.row.name for stage in stages]
    if name in names:
        raise EdgecError(f"{option} is given, and the pipeline has a pass {name!r} of its own")
    place = names.index("fuse") if "fuse" in names else len(names)
    return show_pipeline([*stages[:place], *parse_pipeline(stage), *stages[place:]])
