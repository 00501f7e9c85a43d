"""Where candidates are evaluated: in processes of this machine, or on a cluster; always as `concurrent.futures`."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from ...errors import EdgecError
from .evaluate import Job, Measures, Shared, Study, evaluate


class Workers:
    """`submit` gives a future of a job's measures; `width`: so many run at the same time. A context: what it started
    ends with it."""

    def __init__(
        self, executor: Executor, share: Callable[[Study], Any], width: int, end: Callable[[], object]
    ) -> None:
        self._executor, self._share, self.width, self.close = executor, share, width, end
        self._shared: dict[int, tuple[Study, Any]] = {}

    def submit(self, study: Study, job: Job) -> Future[Measures]:
        if id(study) not in self._shared:
            self._shared[id(study)] = study, self._share(study)
        future: Future[Measures] = self._executor.submit(evaluate, self._shared[id(study)][1], job)
        return future

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def workers(jobs: int | None, scheduler: str | None) -> Workers:
    """`jobs` processes (None: as many as cores; 1: none but this one), or the cluster of a Dask scheduler."""
    if scheduler is not None:
        return _cluster(scheduler)
    jobs = checked_jobs(jobs)
    if jobs == 1:
        return Workers(Inline(), lambda study: study, 1, lambda: None)
    processes = Processes(jobs)
    return Workers(processes, _filed, jobs, lambda: processes.shutdown(cancel_futures=True))


def checked_jobs(jobs: int | None) -> int:
    """How many processes to use: as many as cores where none are said."""
    if jobs is None:
        return len(os.sched_getaffinity(0))
    if isinstance(jobs, bool) or not isinstance(jobs, int) or jobs < 1:
        raise EdgecError(f"jobs: {jobs!r} is not a number of processes; expected 1 or more")
    return jobs


class Inline(Executor):
    """Everything in this process, one after the other."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


def _filed(study: Study) -> Shared:
    """The study in a file of its own folder."""
    path = Path(study.folder) / "study"
    try:
        path.write_bytes(pickle.dumps(study))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise EdgecError(
            f"score: {study.score!r} cannot be sent to other processes; expected script.py:function, or jobs=1"
        ) from error
    return Shared(str(path))


class Processes(ThreadPoolExecutor):
    """Interpreters of their own, one per thread, that get pickled calls by a pipe.

    Not `multiprocessing`: its processes read the user's script again, which must then be written for it, or are forks,
    which threads of native libraries do not survive.
    """

    def __init__(self, jobs: int) -> None:
        super().__init__(jobs, "edgec")
        self._mine = threading.local()
        self._started: list[subprocess.Popen[bytes]] = []
        share = str(max(1, (os.cpu_count() or 1) // jobs))
        self._environment = {"OMP_NUM_THREADS": share, "OPENBLAS_NUM_THREADS": share, "MKL_NUM_THREADS": share}
        # for what they write: they are killed, and leave it
        self._folder = tempfile.TemporaryDirectory(prefix="edgec-", ignore_cleanup_errors=True)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        return super().submit(self._call, fn, args, kwargs)

    def _call(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        process = self._process()
        assert process.stdin is not None and process.stdout is not None
        try:
            pickle.dump((fn, args, kwargs), process.stdin)
            process.stdin.flush()
            result = pickle.load(process.stdout)
        except (EOFError, BrokenPipeError, pickle.UnpicklingError):
            raise RuntimeError(f"a process that evaluates candidates died ({process.wait()})") from None
        if isinstance(result, _Failed):
            raise result.error
        return result

    def _process(self) -> subprocess.Popen[bytes]:
        if not hasattr(self._mine, "process"):
            command = [sys.executable, "-c", f"from {__name__} import serve; serve()"]
            path = os.pathsep.join(filter(None, sys.path))
            environment = {**self._environment, **os.environ, "PYTHONPATH": path, "TMPDIR": self._folder.name}
            pipe = subprocess.PIPE
            self._mine.process = subprocess.Popen(
                command, stdin=pipe, stdout=pipe, env=environment, start_new_session=True
            )
            self._started.append(self._mine.process)
        process: subprocess.Popen[bytes] = self._mine.process
        return process

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        super().shutdown(wait=False, cancel_futures=cancel_futures)
        for process in self._started:
            process.kill()
        super().shutdown(wait=wait, cancel_futures=cancel_futures)
        for process in self._started:
            with process:
                process.wait()
        self._folder.cleanup()


class _Failed:
    """An exception on its way."""

    def __init__(self, error: Exception) -> None:
        try:
            pickle.loads(pickle.dumps(error))
            self.error = error
        except Exception:
            self.error = RuntimeError(f"{type(error).__name__}: {error}")


def serve() -> None:
    """The life of such a process: calls in, results out, until nobody sends any. What user code prints goes to
    stderr."""
    with os.fdopen(os.dup(0), "rb") as inbox, os.fdopen(os.dup(1), "wb") as outbox:
        os.dup2(2, 1)
        with open(os.devnull) as nothing:
            os.dup2(nothing.fileno(), 0)
        while True:
            try:
                fn, args, kwargs = pickle.load(inbox)
            except EOFError:
                return
            try:
                result = fn(*args, **kwargs)
            except Exception as error:
                result = _Failed(error)
            with suppress(BrokenPipeError):
                pickle.dump(result, outbox)
                outbox.flush()


def _cluster(address: str) -> Workers:
    """A Dask cluster: every worker has edgec, and sees the files that `score` reads."""
    try:
        from distributed import Client
    except ImportError as error:
        raise EdgecError(f"scheduler {address}: needs Dask: pip install 'edgec[cluster]'") from error
    try:
        client: Any = Client(address, timeout=10)
    except (OSError, ValueError) as error:
        raise EdgecError(f"scheduler {address}: cannot be reached: {error}") from error
    width = max(1, sum(client.nthreads().values()))

    def share(study: Study) -> Any:
        return client.scatter(study, broadcast=True, hash=False)

    return Workers(client.get_executor(pure=False), share, width, client.close)
