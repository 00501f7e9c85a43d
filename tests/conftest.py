"""`*.eir` files are tests. Comments before the graph say what to do; what stands under `# =>` is the expected result.

    # passes: canonicalize, fold      the pipeline to run
    # rules: twice: Relu(r@Relu(_)) => r     rules to run instead; several such lines make one file
    # tol: 1e-5 | exact               numerical equality before and after (default: what the passes promise)
    # limit: 2                        at most so many rewrites
    # target: x86                     the target that passes see
    # why: RULE at NODE: REASON       an explanation that `--why RULE` must give
    %y = ... # error: TEXT            the graph is refused at this line with this text
    # error: TEXT                     (before the graph) the passes fail with this text
    # compile: x86 threads=2 -fold    compile it so as well, and run it (tests/fuzz/options.py)
    # feed: x = [1.0, -2.0]           what to run it on; default: seeded numbers

Each file is up to five tests: the text form reads back to itself, the verifier accepts it, the result is the expected
text, the interpreter gives the same answers before and after, and the compiled graph gives them too. A file that is
only compiled has no expected text. `pytest --bless` writes the results into the files.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

import edgec.compiler.ops  # noqa: F401
from edgec.compiler.errors import EdgecError
from edgec.compiler.ir import Graph
from edgec.compiler.pipeline import Pass, Stage, close, exact, parse_pipeline, run_pipeline
from edgec.compiler.rewrite import rewrite
from edgec.compiler.rules.language import parse_rules
from edgec.compiler.session import Session
from edgec.compiler.target import read_target, target_files
from edgec.compiler.text import constants, parse, parse_lines, show
from edgec.compiler.verify import CLOSE, Promise, lossy, same_answers, verify

os.environ.setdefault("EDGEC_KERNELS", "off")  # kernels are built, whatever an earlier run has left
HEADS = ("passes", "rules", "tol", "limit", "target", "why", "error", "compile", "feed")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--bless", action="store_true", help="write results into the expectations of .eir files")


def pytest_collect_file(parent: pytest.Collector, file_path: Path) -> EirFile | None:
    return EirFile.from_parent(parent, path=file_path) if file_path.suffix == ".eir" else None


class Case:
    """One file, read once for its tests."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.source, self.arrow, self.expected = path.read_text(encoding="utf-8").partition("# =>\n")
        self.heads: dict[str, list[str]] = {}
        before = self.source.split("graph @")[0]
        for key, value in re.findall(r"^# *([a-z]+): *(.*)$", before, re.M):
            if key in HEADS:
                self.heads.setdefault(key, []).append(value.strip())
        self.faults = [
            (number, line.partition("# error:")[2].strip())
            for number, line in enumerate(self.source.split("\n"), 1)
            if "# error:" in line and not line.startswith("#")
        ]
        self.explained: list[str] = []

    def head(self, key: str) -> str:
        return self.heads.get(key, [""])[0]

    @cached_property
    def graph(self) -> Graph:
        return parse(self.source, where=self.path.name)

    @cached_property
    def stages(self) -> list[Stage]:
        if "rules" not in self.heads:
            return parse_pipeline(self.head("passes"))
        rules = parse_rules("\n".join(self.heads["rules"]), self.path.name)
        row = Pass("rules", lambda graph, *, session: rewrite(graph, rules, session), close, {}, takes_session=True)
        return [Stage(row, {})]

    @cached_property
    def result(self) -> Graph:
        name = self.head("target")
        session = Session(
            target=read_target(target_files()[name].read_text(), name) if name else None,
            limit=int(self.head("limit")) if self.head("limit") else None,
            verify=2,
            why_rules=frozenset(text.split()[0].rstrip(":") for text in self.heads.get("why", [])),
            why=self.explained.append,
        )
        return run_pipeline(self.graph, self.stages, session)

    @property
    def promise(self) -> Promise:
        if self.head("tol"):
            return exact if self.head("tol") == "exact" else close
        promises = {stage.row.promise for stage in self.stages}
        return lossy if lossy in promises else close if close in promises else exact


class EirFile(pytest.File):
    def collect(self) -> Iterator[pytest.Item]:
        case = Case(self.path)
        checks: list[Callable[[Case], None]]
        if case.faults:
            checks = [check_refusal]
        elif "error" in case.heads:
            checks = [check_round_trip, check_failure]
        elif "compile" in case.heads:
            checks = [check_round_trip, check_verifier, check_compiled]
        else:
            checks = [check_round_trip, check_verifier, check_text, check_numbers]
        if "compile" in case.heads and "passes" in case.heads:
            checks += [check_text, check_numbers]
        for check in checks:
            yield EirTest.from_parent(self, name=check.__name__.removeprefix("check_"), case=case, check=check)


class EirTest(pytest.Item):
    def __init__(self, *, case: Case, check: Callable[[Case], None], **rest: Any) -> None:
        super().__init__(**rest)
        self.case = case
        self.check = check

    def runtest(self) -> None:
        if self.check is check_text and self.config.getoption("--bless"):
            self.case.path.write_text(f"{self.case.source}# =>\n{show(self.case.result)}", encoding="utf-8")
            return
        self.check(self.case)

    def reportinfo(self) -> tuple[Path, int, str]:
        return self.path, 0, f"{self.path.stem}: {self.name}"


def check_round_trip(case: Case) -> None:
    text = show(case.graph)
    assert show(parse(text, constants(case.graph))) == text


def check_verifier(case: Case) -> None:
    verify(case.graph, 2)
    verify(case.result, 2)


def check_text(case: Case) -> None:
    assert show(case.result) == case.expected, "the result is not the expected one; `pytest --bless` accepts it"
    for text in case.heads.get("why", []):
        assert text in case.explained


def check_numbers(case: Case) -> None:
    tolerance = case.head("tol")
    same_answers(
        case.graph, case.result, case.promise, tolerance=float(tolerance) if tolerance not in ("", "exact") else CLOSE
    )


def check_compiled(case: Case) -> None:
    from tests.fuzz.check import examine  # brings TVM
    from tests.fuzz.keep import kept
    from tests.fuzz.options import runs_here

    if not runs_here(case.head("compile").split()[0]):
        pytest.skip("this machine has not the instructions")
    report = examine(kept(case.graph, case.head("compile"), case.heads.get("feed", [])))
    assert report.failure is None, f"{report.failure.stage}: {report.failure.what}"


def check_refusal(case: Case) -> None:
    (line, text) = case.faults[0]
    lines: dict[Any, int] = {}
    with pytest.raises(EdgecError) as caught:
        graph, lines = parse_lines(case.source, where=case.path.name)
        verify(graph, 2)
    assert text in str(caught.value)
    where = re.match(rf"{re.escape(case.path.name)}:(\d+):", str(caught.value))
    found = int(where[1]) if where else lines.get(getattr(caught.value, "node", None))
    assert found == line, f"the error stands on line {line} and is reported for line {found}: {caught.value}"


def check_failure(case: Case) -> None:
    with pytest.raises(EdgecError) as caught:
        _ = case.result
    assert case.head("error") in str(caught.value)
