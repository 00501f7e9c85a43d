"""Calls in other processes: results and errors come back, what they print does not get in between."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgec.compiler.cli import main
from edgec.compiler.compress.search.evaluate import Job, Study, evaluate
from edgec.compiler.compress.search.methods import Candidate
from edgec.compiler.compress.search.workers import Inline, Processes, workers
from edgec.compiler.driver import compile_for
from edgec.compiler.errors import EdgecError
from edgec.compiler.exporter import export_model
from edgec.compiler.target import find_target
from tests.support.float_models import canonical, data, residual


@pytest.fixture(scope="module")
def pool() -> Iterator[Processes]:
    with Processes(2) as pool:
        yield pool


def test_calls_run_elsewhere(pool: Processes) -> None:
    assert pool.submit(os.getpid).result() != os.getpid()
    assert pool.submit(sorted, [3, 1, 2], reverse=True).result() == [3, 2, 1]


def test_errors_come_back(pool: Processes) -> None:
    with pytest.raises(ZeroDivisionError):
        pool.submit(divmod, 1, 0).result()
    with pytest.raises(EdgecError, match="jobs: 0 is not a number"):
        pool.submit(workers, 0, None).result()
    assert pool.submit(abs, -1).result() == 1


def test_what_a_call_prints_is_no_answer(pool: Processes) -> None:
    assert pool.submit(print, "loud").result() is None
    assert pool.submit(os.system, "echo louder").result() == 0


def test_a_process_that_dies_is_said(pool: Processes) -> None:
    with Processes(1) as own, pytest.raises(RuntimeError, match="a process that evaluates candidates died"):
        own.submit(os._exit, 3).result()


def test_what_they_leave_is_removed() -> None:
    with Processes(1) as own:
        left = Path(own.submit(tempfile.mkdtemp).result())
        assert left.is_dir() and left.parent != Path(tempfile.gettempdir())
    assert not left.parent.exists()


def study(folder: Path, score: Any = None) -> Study:
    feeds = {"x": data(4)[:, None]}
    model = export_model(canonical(residual())).SerializeToString()
    return Study(model, "net", find_target("host"), 1, feeds, feeds, score, str(folder))


def test_a_study_is_shared_and_answers_are_the_same_everywhere(tmp_path: Path) -> None:
    jobs = [Job(Candidate(), "full"), Job(Candidate.of({"channels": 0.3}), "draft")]
    one = study(tmp_path)
    with workers(2, None) as pool:
        there = [pool.submit(one, job).result() for job in jobs]
    with workers(1, None) as pool:
        here = [pool.submit(one, job).result() for job in jobs]
    for a, b in zip(there, here, strict=True):
        assert a.model == b.model and (a.weights, a.code, a.arena) == (b.weights, b.code, b.arena)
        assert (a.drop, a.sqnr) == (b.drop, b.sqnr)
    assert there[0].drop == 0.0 < there[1].drop
    assert not any(path.suffix == ".graph" and path.stat().st_size == 0 for path in tmp_path.iterdir())


def test_candidates_are_compiled_for_the_memory_that_there_is(tmp_path: Path) -> None:
    """Kernels with much scratch memory give way, when costs are looked at as when bundles are made."""
    roomy = replace(study(tmp_path), target=find_target("x86-avx512"))
    tight = replace(roomy, max_ram=40_000)
    job = Job(Candidate(), "cost")
    assert evaluate(roomy, job).costs.arena > 40_000 >= evaluate(tight, job).costs.arena
    graph = canonical(residual())
    arenas = [
        compile_for(one.target, graph, tmp_path / f"{one.max_ram}", 1, max_ram=one.max_ram).arena_bytes
        for one in (roomy, tight)
    ]
    assert arenas[0] > 40_000 >= arenas[1]


def test_small_code_is_a_candidate_of_its_own(tmp_path: Path) -> None:
    plain, small = (evaluate(study(tmp_path), Job(Candidate.of(s), "draft")) for s in ({}, {"small-code": 1.0}))
    assert small.changed and small.code < plain.code and small.drop < 1e-9
    assert small.model == plain.model


def test_a_function_that_cannot_be_sent(tmp_path: Path) -> None:
    with (
        workers(2, None) as pool,
        pytest.raises(EdgecError, match="cannot be sent to other processes; expected script"),
    ):
        pool.submit(study(tmp_path, lambda run: 0.0), Job(Candidate(), "full"))


def test_in_this_process() -> None:
    assert Inline().submit(os.getpid).result() == os.getpid()
    with pytest.raises(ZeroDivisionError):
        Inline().submit(divmod, 1, 0).result()


def test_a_scheduler_without_dask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(EdgecError, match=r"scheduler tcp://x:1: needs Dask: pip install 'edgec\[cluster\]'"):
        workers(None, "tcp://x:1")


def test_a_scheduler_that_is_not_there() -> None:
    pytest.importorskip("distributed")
    with pytest.raises(EdgecError, match="scheduler tcp://127.0.0.1:9: cannot be reached"):
        workers(None, "tcp://127.0.0.1:9")


def test_on_a_cluster(tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    one = study(tmp_path / "elsewhere")  # a folder that the workers do not have
    with (
        distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster,
        workers(None, cluster.scheduler_address) as pool,
    ):
        found = pool.submit(one, Job(Candidate.of({"channels": 0.3}), "draft")).result()
    assert found.changed and not found.fault and found.drop > 0
    assert np.isfinite(found.sqnr)


def test_jobs_that_are_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["compress", str(tmp_path / "m.onnx"), "--calib", "x.npz", "--max-drop", "1", "--jobs", "0"]
    assert main(words) == 1
    assert "jobs: 0 is not a number of processes; expected 1 or more" in capsys.readouterr().err
