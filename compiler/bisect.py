"""Finds the rewrite that breaks a model: passes number their rewrites, so the first bad one is found by halving."""

from __future__ import annotations

import shlex
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from .eir_file import write_eir
from .errors import EdgecError, IRError
from .ir import Graph
from .pipeline import parse_pipeline, run_pipeline
from .session import Session, Step
from .target import Target
from .verify import same_answers

Check = Callable[[Graph], bool]


@dataclass(frozen=True)
class Culprit:
    """The first rewrite after which the check fails, the number of all rewrites, and the graphs around it.

    `after` is None where the rewrite makes a pass or the verifier fail; `error` is its message then.
    """

    step: Step
    total: int
    before: Graph
    after: Graph | None
    error: str = ""


def bisect(
    graph: Graph,
    spec: str,
    check: Check,
    *,
    target: Target | None = None,
    settings: Mapping[str, object] | None = None,
    verify: int = 1,
    progress: Callable[[int, bool], None] | None = None,
) -> Culprit | None:
    """The culprit, or None where the check holds after all rewrites. `progress` hears each limit tried, and the answer.

    A graph that fails the check before any rewrite is an `EdgecError`: no pass is to blame.
    """
    stages = parse_pipeline(spec, target.pipeline if target else "")
    results: dict[int, tuple[bool, Graph | None, str, list[Step]]] = {}

    def attempt(limit: int | None) -> bool:
        session = Session(target=target, settings=settings or {}, limit=limit, verify=verify)
        key, made, error = -1 if limit is None else limit, None, ""
        try:
            made = run_pipeline(graph, stages, session)
        except Exception as raised:  # a pass that crashes is what the user is looking for
            error = f"{type(raised).__name__}: {raised}"
        results[key] = made is not None and check(made), made, error, session.steps
        if progress is not None:
            progress(len(session.steps) if limit is None else limit, results[key][0])
        return results[key][0]

    if attempt(None):
        return None
    total = len(results[-1][3])
    if not attempt(0):
        raise EdgecError(f"graph @{graph.name}: the check fails before any rewrite; no pass is to blame")
    good, bad = 0, total
    if total and attempt(total):
        raise EdgecError(f"graph @{graph.name}: the check fails in one run and holds in the next")
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if attempt(middle) else (good, middle)
    if not total:
        raise EdgecError(
            f"graph @{graph.name}: a pass that counts no rewrites fails: {results[-1][2] or 'the check does not hold'}"
        )
    _, after, error, steps = results[bad]
    before = results[good][1]
    assert before is not None
    return Culprit(steps[bad - 1], total, before, after, error)


def same_as(graph: Graph, tolerance: float, seed: int = 0) -> Check:
    """The default check: the interpreter's answers stay within `tolerance` of the largest magnitude."""

    def check(candidate: Graph) -> bool:
        try:
            same_answers(graph, candidate, "close", seed, tolerance)
        except IRError:
            return False
        return True

    return check


def command(text: str) -> Check:
    """A user's check: the command gets the .eir file as its last argument; exit status 0 means good."""
    words = shlex.split(text)
    if not words:
        raise EdgecError("the check command is empty")

    def check(candidate: Graph) -> bool:
        with tempfile.TemporaryDirectory(prefix="edgec-bisect-") as folder:
            path = Path(folder) / "candidate.eir"
            write_eir(candidate, path)
            try:
                return subprocess.run([*words, str(path)], stdout=subprocess.DEVNULL, check=False).returncode == 0
            except OSError as error:
                raise EdgecError(f"the check command {words[0]!r} cannot be run: {error.strerror}") from error

    return check
