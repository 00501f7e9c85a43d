"""Fourier transforms, frames of signals, windows and mel bands, against numpy and ONNX Runtime."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from edgec.compiler.errors import EdgecError, UnsupportedModel
from edgec.compiler.importer import fourier_plan, import_model
from edgec.compiler.importer.fourier_plan import Plan, complex_plan, real_plan
from tests.support.one_node import K, OneNode, close


def noise(seed: int, *shape: int) -> Any:
    return np.random.default_rng(seed).standard_normal(shape)


def complex_of(x: Any) -> Any:
    return x[..., 0] + (1j * x[..., 1] if x.shape[-1] == 2 else 0)


def pairs(z: Any) -> Any:
    return np.stack([z.real, z.imag], -1)


def transformed(x: Any, n: int, axis: int, inverse: bool, onesided: bool) -> Any:
    """What numpy makes of it."""
    z = complex_of(x)
    if onesided and inverse:
        return np.fft.irfft(z, n, axis)[..., None]
    y = (np.fft.ifft if inverse else np.fft.fft)(z, n, axis)
    return pairs(np.take(y, range(n // 2 + 1), axis) if onesided else y)


def near(got: Any, want: Any, kind: str = "f4") -> None:
    assert got.shape == want.shape and got.dtype == np.dtype(kind)
    rough = {"f2": 2e-3, "f4": 1e-5, "f8": 1e-12}[kind]
    assert np.abs(got - want).max(initial=0) <= rough * np.abs(want).max(initial=0)


def node_of(x: Any, n: int | None, axis: int, inverse: bool, onesided: bool, opset: int = 20) -> OneNode:
    length = None if n is None else K(np.int64(n))
    attrs: dict[str, Any] = {"inverse": int(inverse), "onesided": int(onesided)}
    if opset < 20:
        return OneNode("DFT", [x, length], opset, axis=axis, **attrs)
    return OneNode("DFT", [x, length, K(np.int64(axis))], opset, **attrs)


FORMS = [(1, False, False), (1, False, True), (1, True, False), (2, False, False), (2, True, False), (2, True, True)]
LENGTHS = [1, 2, 3, 7, 16, 31, 64, 97, 100, 144, 251, 400, 512, 1009, 1018, 2048]


@pytest.mark.parametrize(("parts", "inverse", "onesided"), FORMS)
@pytest.mark.parametrize("n", LENGTHS)
def test_transforms_of_all_lengths(n: int, parts: int, inverse: bool, onesided: bool) -> None:
    for rows, kind in ((1, "f4"), (3, "f8"), (40, "f4")):
        given = n // 2 + 1 if onesided and inverse else n
        x = noise(n, rows, given, parts).astype(kind)
        want = transformed(x, n, 1, inverse, onesided)
        node = node_of(x, n, 1, inverse, onesided)
        node.typed([want.astype(kind)])
        near(node.interpreted()[0], want, kind)


@pytest.mark.parametrize("seed", range(36))
def test_transforms_compiled(seed: int) -> None:
    """Any axis, cut and continued signals, both operator sets."""
    rng = np.random.default_rng(seed)
    parts, inverse, onesided = FORMS[seed % len(FORMS)]
    shape = rng.integers(1, 5, int(rng.integers(1, 4)))
    axis = int(rng.integers(len(shape)))
    shape[axis] = rng.choice([3, 20, 63, 128, 257, 400])
    x = noise(seed, *shape, parts).astype("f4")
    given = 2 * (int(shape[axis]) - 1) if onesided and inverse else int(shape[axis])
    n = None if rng.random() < 0.4 else max(1, given + int(rng.integers(-given // 2, given)))
    want = transformed(x, n or given, axis, inverse, onesided)
    named = axis if rng.random() < 0.5 else axis - len(shape) - 1
    node = node_of(x, n, named, inverse, onesided, int(rng.choice([17, 20])))
    node.typed([want.astype("f4")])
    near(node.compiled()[0], want)


@pytest.mark.parametrize("seed", range(8))
def test_transforms_are_those_of_the_runtime(seed: int) -> None:
    parts, inverse, onesided = FORMS[seed % 5]
    node = node_of(noise(seed, 2, 12, parts).astype("f4"), None, 1, inverse, onesided, 17)
    want = node.runtime()
    close(node.interpreted(), want)


def test_half_precision() -> None:
    x = noise(0, 2, 96, 1).astype(np.float16)
    want = transformed(x.astype("f8"), 96, 1, False, True)
    node = node_of(x, None, 1, False, True)
    node.typed([want.astype(np.float16)])
    near(node.compiled()[0], want, "f2")
    y = x.astype(ml_dtypes.bfloat16)
    node = node_of(y, None, 1, False, True)
    node.typed([want.astype(ml_dtypes.bfloat16)])
    assert np.abs(node.compiled()[0].astype("f4") - want).max() <= 1e-2 * np.abs(want).max()


def test_a_batch_without_signals() -> None:
    node = node_of(np.zeros((0, 8, 1), "f4"), None, 1, False, False)
    node.typed([np.zeros((0, 8, 2), "f4")])
    assert node.interpreted()[0].shape == (0, 8, 2)


def methods(plan: Plan | None) -> list[str]:
    return [] if plan is None else [plan.method, *methods(plan.inner)]


def test_long_transforms_are_split_and_awkward_ones_convolved() -> None:
    assert methods(real_plan(64, 33, 100)) == ["direct"]
    assert methods(real_plan(512, 257, 100)) == methods(real_plan(400, 201, 1)) == ["split", "direct"]
    assert methods(complex_plan(1009, 1)) == ["chirp", "split", "direct"]
    assert methods(complex_plan(2 * 1009, 1)) == ["split", "chirp", "split", "direct"]
    assert set(methods(complex_plan(1 << 20, 1))) == {"split", "direct"}
    assert complex_plan(1 << 16, 1).cost < 65536 * 2000


def test_a_transform_of_a_million_numbers_has_small_tables() -> None:
    x = np.zeros((1, 1 << 18, 2), "f4")
    node = node_of(x, None, 1, False, False)
    node.typed([x])
    graph = import_model(node.model)
    assert max(n.types[0].size for n in graph.nodes() if n.op == "Const") <= 2 * (1 << 18)


@pytest.mark.parametrize("method", ["direct", "split", "chirp"])
def test_every_method_gives_the_same(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where another one would be cheaper."""
    n, rows = 60, 3
    direct = Plan(0.0, "direct")
    plan = {"direct": direct, "split": Plan(0.0, "split", 5, Plan(0.0, "split", 4, direct))}.get(method)
    plan = plan or Plan(0.0, "chirp", 128, direct)
    fourier = __import__("edgec.compiler.importer.fourier", fromlist=["x"])
    monkeypatch.setattr(fourier, "real_plan", lambda *a: plan)
    monkeypatch.setattr(fourier, "complex_plan", lambda k, r: plan if k == n else direct)
    for parts, inverse, onesided in FORMS:
        given = n // 2 + 1 if onesided and inverse else n
        x = noise(n, rows, given, parts)
        want = transformed(x, n, 1, inverse, onesided)
        node = node_of(x, n, 1, inverse, onesided)
        node.typed([want])
        near(node.interpreted()[0], want, "f8")


@pytest.mark.parametrize(
    ("args", "attrs", "message"),
    [
        ([np.zeros((1, 4, 3), "f4")], {}, "holds no real or complex numbers"),
        ([np.zeros((1, 4, 1), "f4"), K(np.int64(0))], {}, "its length is 0"),
        ([np.zeros((1, 4, 1), "f4"), None, K(np.int64(2))], {}, "is that of real and imaginary parts"),
        ([np.zeros((1, 4, 1), "f4"), None, K(np.int64(5))], {}, "axis 5 is outside"),
        ([np.zeros((1, 4, 1), "f4"), K(np.zeros(2, np.int64))], {}, "dft_length has 2 elements"),
    ],
)
def test_transforms_that_make_no_sense(args: list[Any], attrs: dict[str, Any], message: str) -> None:
    node = OneNode("DFT", args, 20, **attrs)
    node.typed([np.zeros((1, 4, 2), "f4")])
    with pytest.raises(EdgecError, match=message):
        import_model(node.model)


def test_one_sided_transforms_that_are_not_defined_are_refused() -> None:
    for parts, inverse in ((2, False), (1, True)):
        node = node_of(np.zeros((1, 4, parts), "f4"), None, 1, inverse, True)
        node.typed([np.zeros((1, 4, 2), "f4")])
        with pytest.raises(UnsupportedModel, match="a one-sided transform of .* numbers is not defined"):
            import_model(node.model)


# ---- frames


def frames_of(x: Any, n: int, step: int, window: Any, onesided: bool) -> Any:
    z = complex_of(x)
    cut = np.stack([z[:, k : k + n] for k in range(0, z.shape[1] - n + 1, step)], 1)
    y = np.fft.fft(cut * window)
    return pairs(y[..., : n // 2 + 1] if onesided else y)


@pytest.mark.parametrize("seed", range(24))
def test_frames(seed: int) -> None:
    """Constant and computed windows, or none; frames that a convolution makes, and such that are transformed."""
    rng = np.random.default_rng(seed)
    n, step = int(rng.choice([1, 5, 16, 48, 400])), int(rng.integers(1, 40))
    length = n + step * int(rng.integers(0, 6)) + int(rng.integers(0, step))
    parts = int(rng.integers(1, 3))
    onesided = parts == 1 and bool(rng.integers(2))
    x, window = noise(seed, 2, length, parts).astype("f4"), rng.random(n).astype("f4")
    args: list[Any] = [x, K(np.int64(step)), [None, K(window), window][seed % 3]]
    if args[2] is None or rng.random() < 0.5:
        args.append(K(np.int64(n)))
    want = frames_of(x, n, step, 1 if args[2] is None else window, onesided)
    node = OneNode("STFT", args, 17, onesided=int(onesided))
    node.typed([want.astype("f4")])
    near(node.interpreted()[0], want)
    if seed % 3 != 0 or seed % 4 == 0:
        near(node.compiled()[0], want)


def test_frames_are_those_of_the_runtime() -> None:
    node = OneNode("STFT", [noise(0, 1, 128, 1).astype("f4"), K(np.int64(8)), K(np.hanning(16).astype("f4"))], 17)
    want = node.runtime()
    close(node.interpreted(), want)


def test_a_signal_without_window_or_length_is_one_frame() -> None:
    x = noise(1, 2, 24, 1).astype("f4")
    node = OneNode("STFT", [x, K(np.int64(8))], 17)
    want = frames_of(x, 24, 8, 1, True)
    node.typed([want.astype("f4")])
    near(node.interpreted()[0], want)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([K(np.int64(4)), K(np.ones(5, "f4")), K(np.int64(6))], "expected 6 numbers"),
        ([K(np.int64(0)), None, K(np.int64(6))], "do not fit a signal of 20"),
        ([K(np.int64(4)), None, K(np.int64(21))], "do not fit a signal of 20"),
    ],
)
def test_frames_that_make_no_sense(args: list[Any], message: str) -> None:
    node = OneNode("STFT", [np.zeros((1, 20, 1), "f4"), *args], 17)
    node.typed([np.zeros((1, 1, 1, 2), "f4")])
    with pytest.raises(EdgecError, match=message):
        import_model(node.model)


def test_one_sided_frames_of_complex_signals_are_refused() -> None:
    node = OneNode("STFT", [np.zeros((1, 20, 2), "f4"), K(np.int64(4)), None, K(np.int64(8))], 17)
    node.typed([np.zeros((1, 4, 5, 2), "f4")])
    with pytest.raises(UnsupportedModel, match="expected onesided=0"):
        import_model(node.model)


# ---- constants


@pytest.mark.parametrize("periodic", [0, 1])
@pytest.mark.parametrize("op", ["HannWindow", "HammingWindow", "BlackmanWindow"])
def test_windows(op: str, periodic: int) -> None:
    for size in (1, 2, 10, 401):
        node = OneNode(op, [K(np.int64(size))], 17, periodic=periodic)
        want = [np.ones(1, "f4")] if size + periodic == 1 else node.runtime()
        node.typed(want)
        (got,) = node.interpreted()
        np.testing.assert_allclose(got, want[0], atol=1e-6)
        assert got.dtype == np.float32
    node = OneNode(op, [K(np.int32(6))], 17, periodic=periodic, output_datatype=11)
    want = node.reference()
    close(node.interpreted(), want)


def test_windows_of_other_types_and_sizes() -> None:
    node = OneNode("HannWindow", [K(np.int64(0))], 17)
    node.typed([np.zeros(0, "f4")])
    assert node.interpreted()[0].shape == (0,)
    node = OneNode("HannWindow", [K(np.int64(-1))], 17)
    node.typed([np.zeros(0, "f4")])
    with pytest.raises(EdgecError, match="its size is -1"):
        import_model(node.model)
    node = OneNode("HannWindow", [np.int64(4) * np.ones((), np.int64)], 17)
    node.typed([np.zeros(4, "f4")])
    with pytest.raises(UnsupportedModel, match="size .* is computed while the model runs"):
        import_model(node.model)


def mel(bands: int, length: int, rate: int, low: float, high: float, **attrs: Any) -> OneNode:
    numbers = [K(np.int64(bands)), K(np.int64(length)), K(np.int64(rate)), K(np.float32(low)), K(np.float32(high))]
    return OneNode("MelWeightMatrix", numbers, 17, **attrs)


@pytest.mark.parametrize(
    "sizes", [(8, 16, 8192, 0, 4096), (40, 512, 16000, 20, 7600), (80, 400, 16000, 0, 8000), (1, 8, 100, 5, 50)]
)
def test_mel_weights(sizes: Any) -> None:
    node = mel(*sizes)
    want = node.runtime()
    close(node.interpreted(), want)


def test_mel_weights_of_other_types() -> None:
    node = mel(8, 16, 8192, 0, 4096, output_datatype=11)
    want = node.reference()
    close(node.interpreted(), want)
    node = mel(8, 16, 8192, 0, 4096, output_datatype=9)
    node.typed(want)
    with pytest.raises(UnsupportedModel, match="output_datatype is 9"):
        import_model(node.model)
    node = mel(8, 16, 8192, 4096, 0)
    node.typed(want)
    with pytest.raises(EdgecError, match="make no sense"):
        import_model(node.model)


def test_plans_are_made_once() -> None:
    assert fourier_plan.complex_plan(512, 4) is fourier_plan.complex_plan(512, 4)


def test_constants_and_transforms_that_nobody_means_are_refused() -> None:
    """Before anything is allocated for them."""
    nodes = [
        OneNode("DFT", [np.zeros((1, 4, 1), "f4"), K(np.int64(1 << 27))], 20),
        OneNode("HannWindow", [K(np.int64(1 << 40))], 17),
        mel(1 << 20, 1 << 20, 16000, 0, 8000),
    ]
    for node, message in zip(nodes, ("134217728 numbers at a time", "constant of", "constant of"), strict=True):
        node.typed([np.zeros((1, 1, 1), "f4")])
        with pytest.raises(UnsupportedModel, match=message):
            import_model(node.model)
