"""Forked workers: results, errors, deaths, and use inside a daemonic process."""

from __future__ import annotations

import multiprocessing
import os

import pytest

from edgec.compiler.parallel import Overdue, forked


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_every_piece_is_done_once(workers: int) -> None:
    assert sorted(forked(40, lambda i: b"x" * (i * 10_000), workers)) == [(i, b"x" * (i * 10_000)) for i in range(40)]


def test_the_work_is_done_in_other_processes() -> None:
    assert os.getpid() not in {pid for _, pid in forked(4, lambda i: os.getpid(), 2)}


def _fail(i: int) -> int:
    if i == 3:
        raise ValueError("piece three")
    return i


@pytest.mark.parametrize("workers", [1, 2])
def test_an_exception_is_raised_here(workers: int) -> None:
    with pytest.raises(ValueError, match="piece three"):
        list(forked(8, _fail, workers))


def _die(i: int) -> int:
    if i == 2:
        os._exit(9)
    return i


def test_a_child_that_dies_is_named() -> None:
    with pytest.raises(RuntimeError, match="a worker process died while it worked on piece 2"):
        list(forked(6, _die, 2))


def _nested(pipe: multiprocessing.connection.Connection) -> None:
    pipe.send(sorted(forked(4, lambda i: i * i, 2)))


def test_it_works_inside_a_daemonic_process() -> None:
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    process = context.Process(target=_nested, args=(there,), daemon=True)
    process.start()
    assert here.poll(20) and here.recv() == [(0, 0), (1, 1), (2, 4), (3, 9)]
    process.join()


def test_workers_end_when_nobody_reads_on() -> None:
    """They are full of results, and none of them holds another's pipe open."""
    pieces = forked(8, lambda i: b"x" * (1 << 20), 3)
    next(pieces)
    pieces.close()  # waits for them


def _busy(i: int) -> int:
    while i == 2:
        pass
    return i


@pytest.mark.parametrize("count", [3, 6])
def test_a_piece_that_does_not_end_is_ended(count: int) -> None:
    with pytest.raises(Overdue, match="piece 2 takes too long"):
        list(forked(count, _busy, 2, seconds=0.3))
    with pytest.raises(Overdue, match="piece 0"):
        list(forked(1, lambda _: _busy(2), 2, seconds=0.3))


def test_pieces_together_may_take_longer() -> None:
    def work(i: int) -> int:
        return sum(k % 7 for k in range(300_000))

    assert len(list(forked(60, work, 2, seconds=0.5))) == 60
