"""Decides in which process kernels are built: one that imports TVM while this one still reads the model.

TVM takes a second to import, several where PyTorch is installed, and half a second to leave. So the first model of a
process has a helper, forked before the model is read: it imports TVM, gets the kernels once they are chosen, and forks
the workers that build them. A process that compiles again imports TVM itself: then no model waits for it. What it has
built before it does not build again, nor what earlier ones have (kernel_store.py).
"""

from __future__ import annotations

import fcntl
import gc
import os
import pickle
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from hashlib import sha256
from importlib import import_module
from pkgutil import walk_packages
from types import ModuleType
from typing import IO

from edgec.compiler.errors import EdgecError
from edgec.compiler.parallel import Overdue, forked
from edgec.compiler.target import Target

from .build_jobs import Built, Job, build_job, named
from .kernel_store import Store, described

_PIPE_BYTES = 1 << 20  # the most that Linux grants everyone: neither side waits for the other
# What TVM would import too, at four times the cost of the rest: PyTorch, for arrays that nobody hands over here; the
# distributed runtime, which is optional; the dialect of graphs. The helper lives for our kernels alone.
_UNUSED = {"torch": None, "tvm.runtime.disco": None, "tvm.relax": ModuleType("tvm.relax")}
Made = Built | EdgecError | str  # an error of the user's, or what cannot be built and why
_used = False  # whether this process has compiled before
_kept: dict[bytes, Built] = {}  # kernels that this process has, the oldest first
_MOST = 2048  # of some kilobytes each
_SECONDS = 300.0  # of the processor's time that a kernel may take: a thousand times what most take


class Builder:
    """Builds kernels, each once in a process. A context: what it has started ends with it.

    `ahead`: a helper may be forked. `workers`: processes that build at the same time; 1: this one does.
    """

    def __init__(self, ahead: bool = True, workers: int | None = None) -> None:
        self._ahead = ahead
        self._workers = workers or _at_least_two()
        self._helper = 0
        self._ours: list[IO[bytes]] = []
        self._jobs: Sequence[Job] = ()
        self._target: Target | None = None
        self._keys: list[bytes] = []
        self._missing: list[int] = []

    def __enter__(self) -> Builder:
        global _used
        if self._ahead and not _used and "tvm" not in sys.modules:
            self._fork()
        _used = True
        return self

    def __exit__(self, *error: object) -> None:
        for pipe in self._ours:
            with suppress(OSError):  # a helper that is gone, with bytes for it still here
                pipe.close()
        if self._helper:
            os.kill(self._helper, signal.SIGKILL)
            os.waitpid(self._helper, 0)
            self._helper = 0

    def start(self, jobs: Sequence[Job], target: Target) -> None:
        """Hand over all kernels of a program. What follows may run at the same time, until `results` is asked."""
        self._jobs, self._target = jobs, target
        made_for = described(target)
        self._keys = [sha256(f"{made_for} {job.content}".encode()).digest() for job in jobs]
        self._store = Store(target)
        self._missing = [i for i in range(len(jobs)) if not self._known(i)]
        if self._helper and self._missing:
            wanted = [jobs[i] for i in self._missing]
            bodies = [tuple(job.problem.body.nodes()) for job in wanted]  # producers first: pickle recurses no deeper
            with suppress(BrokenPipeError):  # `results` says that the helper is gone
                pickle.dump((bodies, wanted, target), self._ours[1])
                self._ours[1].flush()

    def _known(self, i: int) -> bool:
        """Whether this process or an earlier one has built a job."""
        if self._keys[i] not in _kept and (found := self._store.read(self._jobs[i])):
            _keep(self._keys[i], found)
        return self._keys[i] in _kept

    def results(self) -> Iterator[tuple[int, Built]]:
        """(number of the job, what was built), as they are done. An error says what cannot be built."""
        assert self._target is not None
        for i in sorted(set(range(len(self._jobs))) - set(self._missing)):
            yield i, named(_kept[self._keys[i]], self._jobs[i].symbol)
        for k, result in self._made() if self._missing else ():
            if isinstance(result, EdgecError):
                raise result
            if isinstance(result, str):
                raise RuntimeError(result)
            i = self._missing[k]
            _keep(self._keys[i], result)
            self._store.write(self._jobs[i], result)
            yield i, named(result, self._jobs[i].symbol)
        self._store.close()

    def _made(self) -> Iterator[tuple[int, Made]]:
        assert self._target is not None
        jobs = [self._jobs[i] for i in self._missing]
        return self._received() if self._helper else built(jobs, self._target, self._workers)

    def _received(self) -> Iterator[tuple[int, Made]]:
        for _ in self._missing:
            try:
                yield pickle.load(self._ours[0])
            except EOFError:
                raise RuntimeError("the process that builds kernels died") from None

    def _fork(self) -> None:
        ours, theirs = _pipes()
        self._helper = os.fork()
        if not self._helper:
            for pipe in ours:
                pipe.close()
            _serve(*theirs)
        for pipe in theirs:
            pipe.close()
        self._ours = ours


def _at_least_two() -> int:
    """Workers for this machine: of one core too, since only another process can be ended while LLVM is at work."""
    return max(2, os.cpu_count() or 1)


def _keep(key: bytes, made: Built) -> None:
    _kept[key] = made
    while len(_kept) > _MOST:
        del _kept[next(iter(_kept))]


def _pipes() -> tuple[list[IO[bytes]], list[IO[bytes]]]:
    """(reader, writer) of each side."""
    read_ours, write_theirs = os.pipe()
    read_theirs, write_ours = os.pipe()
    for end in (write_ours, write_theirs):
        with suppress(OSError, AttributeError):  # then the pipes are as small as they were
            fcntl.fcntl(end, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    return (
        [os.fdopen(read_ours, "rb"), os.fdopen(write_ours, "wb")],
        [os.fdopen(read_theirs, "rb"), os.fdopen(write_theirs, "wb")],
    )


def _serve(inbox: IO[bytes], outbox: IO[bytes]) -> None:
    """The helper's life: kernels in, objects out, until nobody sends any; never returns."""
    status = 1
    try:
        failure = _prepare()
        while True:
            _, jobs, target = pickle.load(inbox)
            for result in [(0, failure)] if failure else _told(jobs, target):
                pickle.dump(result, outbox)
                outbox.flush()
    except (EOFError, BrokenPipeError):
        status = 0
    finally:
        os._exit(status)


def _prepare() -> str:
    """Import whatever building needs; what went wrong, or ""."""
    os.environ["TVM_DEVICE_BACKEND_AUTOLOAD"] = "0"  # of GPUs and such
    for name, module in _UNUSED.items():
        sys.modules.setdefault(name, module)  # type: ignore[arg-type]
    gc.disable()  # modules are no garbage
    try:
        import_module("edgec.targets.codegen_llvm")
        rows = import_module("edgec.targets.kernels")
        for row in walk_packages(rows.__path__, f"{rows.__name__}."):
            if ".cuda." not in row.name:
                import_module(row.name)
        return ""
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    finally:
        gc.enable()


def _told(jobs: Sequence[Job], target: Target) -> Iterator[tuple[int, Made]]:
    """What was built, or at the end why not."""
    try:
        yield from built(jobs, target, _at_least_two())
    except EdgecError as error:
        yield 0, error
    except RuntimeError as error:
        yield 0, str(error)


def built(jobs: Sequence[Job], target: Target, workers: int) -> Iterator[tuple[int, Made]]:
    """Build kernels in forked workers: they are independent, and one takes 0.05-0.4 s.

    LLVM is known not to end on some code. Where there are workers, a kernel with which it is busy for `_SECONDS` is
    one that cannot be built.
    """
    from . import codegen_llvm  # before forking: the import of TVM is paid once

    if not target.gpu:
        codegen_llvm.check_core(target)

    def build(i: int) -> Made:
        job = jobs[i]
        try:
            return build_job(job, target)
        except EdgecError as error:  # an operator of the user's own without code
            return error
        except Exception as error:
            return f"kernel {job.choice} for {job.problem.anchor}: {type(error).__name__}: {error}"

    try:
        yield from forked(len(jobs), build, workers, _SECONDS)
    except Overdue as overdue:
        job = jobs[overdue.piece]
        raise EdgecError(
            f"kernel {job.choice} for {job.problem.anchor}: LLVM was busy with it for {_SECONDS:.0f} s and did not "
            "end; --optimize size writes less code"
        ) from None
