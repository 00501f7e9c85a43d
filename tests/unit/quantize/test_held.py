"""Values of many samples take bounded memory; what lies in files is what it was, and gone when nobody needs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgec.compiler.errors import EdgecError
from edgec.compiler.quantize import held
from edgec.compiler.quantize.held import SMALL, Held, Store, by_value
from edgec.compiler.text import show
from tests.support.float_models import MODELS, data, quantized


def arrays(count: int, kind: str = "f4") -> list[np.ndarray[Any, Any]]:
    """Each a little larger than what is worth a file."""
    random = np.random.default_rng(0)
    return [(random.normal(size=(2, SMALL)) * 100).astype(kind) for _ in range(count)]


@pytest.mark.parametrize("kind", ["f4", "f8", "i8", "?"])
def test_what_does_not_fit_lies_in_files_and_is_the_same(tmp_path: Path, kind: str) -> None:
    given = arrays(5, kind)
    store = Store(tmp_path, 2 * given[0].nbytes)
    kept = Held(store.all(given))
    assert len(list(tmp_path.iterdir())) == 3
    for was, now in zip(given, kept, strict=True):
        assert now.dtype == was.dtype and np.array_equal(now, was)


def test_files_and_room_are_free_again_when_nobody_has_the_value(tmp_path: Path) -> None:
    given = arrays(4)
    store = Store(tmp_path, 2 * given[0].nbytes)
    for _ in range(3):
        kept = Held(store.all(given))
        assert len(list(tmp_path.iterdir())) == 2
        del kept
        assert not list(tmp_path.iterdir())


def test_small_arrays_and_views_of_others_are_kept_as_they_are(tmp_path: Path) -> None:
    small = np.arange(6, dtype=np.float32).reshape(2, 3)
    turned = np.asfortranarray(arrays(1)[0])
    store = Store(tmp_path, 0)
    one, other = by_value([store.all([small, turned])])
    assert one[0] is small and np.array_equal(other[0], turned) and len(list(tmp_path.iterdir())) == 1


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    with pytest.raises(EdgecError, match=r"none: No such file.*no room for 1 MB more .*TMPDIR"):
        Store(tmp_path / "none", 0).put(arrays(1)[0])


@pytest.mark.parametrize("name", ["residual", "joined"])
def test_a_model_is_quantized_the_same_in_little_memory(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    written: list[int] = []
    plain = held._File.__init__

    def counted(self: Any, array: Any, path: Path) -> None:
        written.append(array.nbytes)
        plain(self, array, path)

    model = MODELS[name]()
    exact, report, _ = quantized(model, data())
    assert not written
    monkeypatch.setattr(held, "SMALL", 0)
    monkeypatch.setattr(held, "BYTES", 20000)
    monkeypatch.setattr(held._File, "__init__", counted)
    made, again, _ = quantized(model, data())
    assert written and show(made) == show(exact) and again.table() == report.table()
