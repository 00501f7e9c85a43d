"""Cases in a process of their own: a crash or a hang of the compiler, or of what it generates, is an answer too."""

from __future__ import annotations

import signal
import warnings
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

from .check import Case, Failure, Report, examine

_FORK = get_context("fork")


class Worker:
    """A process that examines cases, started again when it dies. A context: it ends with it."""

    def __init__(self, seconds: float = 120.0) -> None:
        self.seconds = seconds
        self._process: Any = None
        self._pipe: Connection | None = None

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def examine(self, case: Case, *, reference: bool = True) -> Report:
        """What the case shows; a process that dies or is silent for too long is a failure."""
        if self._process is None:
            self._start()
        assert self._pipe is not None
        self._pipe.send((case, reference))
        if not self._pipe.poll(self.seconds):
            self._end()
            return Report(Failure("hang", f"no answer after {self.seconds:.0f} s"))
        try:
            answer: Report = self._pipe.recv()
            return answer
        except EOFError:
            self._process.join()
            status = self._process.exitcode
            self._end()
            died = signal.Signals(-status).name if status < 0 else f"status {status}"
            return Report(Failure("crash", f"the process died: {died}"))

    def _start(self) -> None:
        self._pipe, theirs = _FORK.Pipe()
        self._process = _FORK.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process = None
        if self._pipe is not None:
            self._pipe.close()


def _serve(pipe: Connection) -> None:
    warnings.simplefilter("ignore")
    while True:
        try:
            case, reference = pipe.recv()
        except EOFError:
            return
        pipe.send(examine(case, reference=reference))
