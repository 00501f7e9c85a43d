"""Work in numpy on one piece of the data after the other, shared out over this machine's cores.

Numpy lets go of Python's lock in its loops, so that threads are enough. Its matrix products get one thread each
meanwhile: those of one layer for one sample are too small to be split, and on a busy machine their threads wait for
each other longer than they work. What is computed then does not hang on the number of cores either.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

T = TypeVar("T")
R = TypeVar("R")
P = ParamSpec("P")
MOST = 16  # threads: beyond that memory is what is short
# How numpy's library says how many threads it uses, and how it is told: as wheels and distributions name them.
_THREADS = [
    (f"{name}_get_num_threads{end}", f"{name}_set_num_threads{end}")
    for name in ("scipy_openblas", "openblas")
    for end in ("64_", "")
] + [("MKL_Get_Max_Threads", "MKL_Set_Num_Threads")]


class Cores:
    """`begin` starts a piece of work, `each` does one per item; see `shared_out`."""

    def __init__(self, pool: ThreadPoolExecutor, workers: int) -> None:
        self._pool, self._workers = pool, workers

    def begin(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        return self._pool.submit(work, *args, **kwargs)

    def each(self, work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """`work(item)` of all items, in order; no more of them wait for the caller than there are workers."""
        waiting: deque[Future[R]] = deque()
        for item in items:
            waiting.append(self.begin(work, item))
            if len(waiting) > self._workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


@contextmanager
def shared_out() -> Iterator[Cores]:
    """All cores of this machine for as long as the context lasts: no process may be forked in it."""
    workers = min(len(os.sched_getaffinity(0)), MOST)
    pool = ThreadPoolExecutor(workers, "edgec")
    try:
        yield Cores(pool, workers)
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def products_alone() -> Iterator[None]:
    """Matrix products of numpy use one thread each, as far as its library can be told so."""
    found = _library()
    if found is None:
        yield
        return
    ask, tell = found
    before = ask()
    tell(1)
    try:
        yield
    finally:
        tell(before)


def _library() -> tuple[Callable[[], int], Callable[[int], Any]] | None:
    """How many threads numpy's matrix products use, and a function that sets it."""
    inside = next((m for name, m in sys.modules.items() if name.endswith("._multiarray_umath") and m is not None), None)
    path = getattr(inside, "__file__", None)
    if path is None:
        return None
    library = ctypes.CDLL(path)  # symbols are looked for in what it is linked with as well
    for ask, tell in _THREADS:
        if hasattr(library, ask) and hasattr(library, tell):
            return getattr(library, ask), getattr(library, tell)
    return None
