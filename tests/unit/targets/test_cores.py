"""Work that is shared out over the machine's cores."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Lock

import numpy as np
import pytest

from edgec.compiler import cores
from edgec.compiler.cores import products_alone, shared_out


def test_results_come_in_order_and_few_wait() -> None:
    begun, waiting, lock = 0, 0, Lock()

    def items() -> Iterator[int]:
        nonlocal begun
        for k in range(200):
            with lock:
                begun += 1
            yield k

    with shared_out() as shared:
        for done, square in enumerate(shared.each(lambda k: k * k, items())):
            assert square == done * done
            waiting = max(waiting, begun - done)
    assert done == 199
    assert waiting <= cores.MOST + 1


def test_an_error_reaches_the_caller() -> None:
    with pytest.raises(ZeroDivisionError), shared_out() as shared:
        list(shared.each(lambda k: 1 // k, [1, 0, 1]))


def test_matrix_products_use_one_thread_and_then_as_many_as_before() -> None:
    found = cores._library()
    if found is None:
        pytest.skip("numpy's library is not one that can be told")
    ask, tell = found
    before = ask()
    try:
        tell(3)
        with pytest.raises(ValueError, match="inside"), products_alone():
            assert ask() == 1
            np.ones((4, 4)) @ np.ones((4, 4))
            raise ValueError("inside")
        assert ask() == 3
    finally:
        tell(before)


def test_a_library_that_nobody_knows_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "_THREADS", [])
    with products_alone():
        assert cores._library() is None
