"""Independent pieces of work in forked processes.

Not `multiprocessing.Pool`: that refuses to work inside a daemonic process (a test runner's or a server's worker) and
waits for ever when a child dies, which a native code generator can make happen.
"""

from __future__ import annotations

import gc
import os
import pickle
import selectors
import signal
import struct
from collections.abc import Callable, Iterator
from typing import TypeVar

T = TypeVar("T")
_FRAME = struct.Struct("<iQ")  # number of the piece, bytes of the pickled outcome that follows
_NUMBER = struct.Struct("<i")
_GARBAGE = 50_000  # objects made between two collections: a child lives for seconds
_AT_ONCE = 4096  # numbers that fit into a pipe nobody reads yet


class Overdue(RuntimeError):
    """A piece of work has taken all the processor's time that it may take."""

    def __init__(self, piece: int) -> None:
        super().__init__(f"piece {piece} takes too long")
        self.piece = piece


def forked(count: int, work: Callable[[int], T], workers: int, seconds: float | None = None) -> Iterator[tuple[int, T]]:
    """`(i, work(i))` for i in 0 .. count - 1, as they are done. `work` and what it reads need no pickling, results do.

    An exception in a child is raised here; a child that dies is a `RuntimeError` that names the piece. `seconds`: of
    the processor's time that a piece may take in a child, however busy the machine is; more is `Overdue`.
    """
    if workers <= 1 or (count <= 1 and seconds is None) or count > _AT_ONCE:
        for i in range(count):
            yield i, work(i)
        return
    queue, feed = os.pipe()
    os.write(feed, b"".join(_NUMBER.pack(i) for i in range(count)))
    os.close(feed)
    children: dict[int, int] = {}  # end of the pipe that we read -> process
    try:
        for _ in range(min(workers, count)):
            ours, theirs = os.pipe()
            process = os.fork()
            if process == 0:
                for other in (ours, *children):  # or a worker would write for ever when the parent is gone
                    os.close(other)
                _child(queue, theirs, work, seconds or 0.0)
            os.close(theirs)
            children[ours] = process
        yield from _collect(children)
    finally:
        os.close(queue)
        for pipe, process in children.items():
            os.close(pipe)
            if process:
                os.kill(process, signal.SIGKILL)  # it has ended, unless nobody wants what it makes
                os.waitpid(process, 0)


def _child(queue: int, out: int, work: Callable[[int], object], seconds: float) -> None:
    """Take numbers until none are left; never returns."""
    status = 1
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # ends the process, whatever native code is at work
    gc.freeze()  # what the parent made is not ours to collect
    gc.set_threshold(_GARBAGE)
    try:
        while number := os.read(queue, _NUMBER.size):
            (i,) = _NUMBER.unpack(number)
            _send(out, i, ("begun", None))
            signal.setitimer(signal.ITIMER_PROF, seconds)
            try:
                outcome: tuple[str, object] = ("done", work(i))
            except Exception as error:
                outcome = ("failed", _portable(error))
            _send(out, i, outcome)
        status = 0
    finally:
        os._exit(status)


def _portable(error: Exception) -> Exception:
    """The exception itself where it can be pickled and read again, else its text."""
    try:
        pickle.loads(pickle.dumps(error))
        return error
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")


def _send(out: int, i: int, outcome: tuple[str, object]) -> None:
    data = pickle.dumps(outcome)
    data = _FRAME.pack(i, len(data)) + data
    while data:
        data = data[os.write(out, data) :]


def _collect(children: dict[int, int]) -> Iterator[tuple[int, T]]:
    pending = dict.fromkeys(children, b"")
    current: dict[int, int | None] = dict.fromkeys(children)
    with selectors.DefaultSelector() as selector:
        for pipe in children:
            selector.register(pipe, selectors.EVENT_READ)
        while selector.get_map():
            for key, _ in selector.select():
                pipe = key.fd
                chunk = os.read(pipe, 1 << 20)
                if not chunk:
                    selector.unregister(pipe)
                    if (piece := current[pipe]) is not None:
                        process, children[pipe] = children[pipe], 0
                        if os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == -signal.SIGPROF:
                            raise Overdue(piece)
                        raise RuntimeError(f"a worker process died while it worked on piece {piece}")
                pending[pipe] += chunk
                for i, (state, value) in _frames(pending, pipe):
                    current[pipe] = i if state == "begun" else None
                    if state == "failed":
                        assert isinstance(value, Exception)
                        raise value
                    if state == "done":
                        yield i, value  # type: ignore[misc]


def _frames(pending: dict[int, bytes], pipe: int) -> Iterator[tuple[int, tuple[str, object]]]:
    """Complete frames at the start of what a pipe has delivered."""
    while len(pending[pipe]) >= _FRAME.size:
        i, size = _FRAME.unpack_from(pending[pipe])
        if len(pending[pipe]) < _FRAME.size + size:
            return
        data = pending[pipe][_FRAME.size : _FRAME.size + size]
        pending[pipe] = pending[pipe][_FRAME.size + size :]
        yield i, pickle.loads(data)
