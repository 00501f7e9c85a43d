"""Layers are split: decompositions recover what has their form, weigh errors by the inputs, and keep the geometry."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from edgec.compiler.calibration.request import SETTING, requested
from edgec.compiler.compress.low_rank.decompose import METHODS, energy_of, steps
from edgec.compiler.compress.low_rank.forms import candidates, splittable
from edgec.compiler.compress.low_rank.frontier import Offer, chosen, frontier
from edgec.compiler.compress.low_rank.pieces import Piece, weights_of
from edgec.compiler.compress.low_rank.split import composed, split, split_graph
from edgec.compiler.compress.repair.moments import Spread
from edgec.compiler.errors import EdgecError
from edgec.compiler.exporter import export_model
from edgec.compiler.importer import import_model
from edgec.compiler.interpret import run
from edgec.compiler.ir import Graph, Node, Type, Value
from edgec.compiler.op import build, const
from edgec.compiler.pipeline import run_pipeline
from edgec.compiler.session import Session
from edgec.compiler.target import find_target

Array = npt.NDArray[Any]
RNG = np.random.default_rng


def graph_of(x: Value, y: Value) -> Graph:
    return Graph("g", (x,), (y,), ("y",))


def entry(*shape: int) -> Value:
    return Value(Node("Input", (), (Type("f32", shape),), {}, "x"))


def convolution(weights: Array, x: Value, bias: Array | None = None, **attrs: Any) -> Value:
    b = np.zeros(len(weights), np.float32) if bias is None else bias
    return build("Conv", x, const(weights.astype(np.float32)), const(b.astype(np.float32)), label="c", **attrs)


def calibrated(graph: Graph, spec: str, data: Any = None, target: str | None = None) -> tuple[Graph, Session]:
    session = Session(
        target=find_target(target) if target else None, settings={SETTING: requested(data, None)}, verify=2
    )
    return run_pipeline(graph, spec, session), session


def error(before: Graph, after: Graph, feeds: Array) -> float:
    """Energy of the difference over that of the results around their mean."""
    a = np.stack([run(before, [x])[0] for x in feeds])
    b = np.stack([run(after, [x])[0] for x in feeds])
    return float(np.square(a - b).sum() / np.square(a - a.mean(0)).sum())


def ops(graph: Graph) -> list[str]:
    return [n.op for n in graph.nodes() if n.op in ("Conv", "MatMul", "Add")]


def constructed(method: str, rank: tuple[int, ...], piece: Piece, seed: int = 0) -> Array:
    """Weights of the piece's shape that have a form exactly."""
    pieces = METHODS[method].pieces(piece, rank)
    factors = [RNG(seed + k).standard_normal(p.shape).astype(np.float32) for k, p in enumerate(pieces)]
    return composed(pieces, factors, piece.shape)


EXACT = [
    ("svd", (3,), (8, 6, 1, 1)),
    ("svd", (5,), (8, 6, 3, 3)),
    ("svd", (2,), (8, 6, 5)),
    ("spatial", (4,), (8, 6, 3, 3)),
    ("spatial", (5,), (6, 4, 5, 3)),
    ("tucker", (3, 4), (8, 6, 3, 3)),
    ("tucker", (3, 8), (8, 6, 3, 3)),
    ("tucker", (2, 3), (6, 5, 3)),
    ("cp", (2,), (8, 6, 3, 3)),
]


def whole_piece(shape: tuple[int, ...]) -> Piece:
    rank = len(shape) - 2
    return Piece(shape, (1,) * rank, (0,) * 2 * rank, (1,) * rank)


@pytest.mark.parametrize(("method", "rank", "shape"), EXACT)
@pytest.mark.parametrize("known", [None, False, True])
def test_weights_of_a_form_are_recovered(
    method: str, rank: tuple[int, ...], shape: tuple[int, ...], known: bool | None
) -> None:
    piece = whole_piece(shape)
    weights = constructed(method, rank, piece)
    size = weights[0].size
    mix = RNG(9).standard_normal((size, 2 * size)) if known else np.eye(size)
    solver = METHODS[method].solver(weights, None if known is None else mix @ mix.T / mix.shape[1])
    pieces = METHODS[method].pieces(piece, rank)
    made = composed(pieces, list(solver.factors(rank)), shape)
    assert [w.shape for w in solver.factors(rank)] == [p.shape for p in pieces]
    limit = 5e-3 if method == "cp" else 1e-4  # alternating least squares approach, the others arrive
    assert np.abs(made - weights).max() <= limit * np.abs(weights).max()
    assert solver.error(rank) <= 1e-5


@pytest.mark.parametrize("method", ["svd", "spatial", "tucker", "cp"])
def test_stated_error_is_that_of_the_factors(method: str) -> None:
    piece = whole_piece((8, 6, 3, 3))
    weights = RNG(1).standard_normal(piece.shape)
    mix = RNG(2).standard_normal((54, 60))
    covariance = mix @ mix.T
    solver = METHODS[method].solver(weights, covariance)
    for rank in METHODS[method].ranks(piece, 4):
        made = composed(METHODS[method].pieces(piece, rank), list(solver.factors(rank)), piece.shape)
        found = energy_of(made - weights, covariance) / energy_of(weights, covariance)
        assert found == pytest.approx(solver.error(rank), rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("method", ["svd", "spatial", "tucker", "cp"])
def test_knowing_the_inputs_lowers_the_error(method: str) -> None:
    piece = whole_piece((12, 8, 3, 3))
    weights = RNG(1).standard_normal(piece.shape)
    channels = RNG(2).standard_normal((8, 8)) * np.logspace(0, -2, 8)
    smooth = np.exp(-np.abs(np.subtract.outer(np.arange(9), np.arange(9))) / 3)
    covariance = np.kron(channels @ channels.T, smooth) + 1e-6 * np.eye(72)
    for rank in METHODS[method].ranks(piece, 4)[:2]:
        pieces = METHODS[method].pieces(piece, rank)
        errors = []
        for known in (covariance, np.eye(72)):
            made = composed(pieces, list(METHODS[method].solver(weights, known).factors(rank)), piece.shape)
            errors.append(energy_of(made - weights, covariance) / energy_of(weights, covariance))
        assert errors[0] < 0.7 * errors[1]


GEOMETRY: list[dict[str, Any]] = [
    {},
    {"strides": (2, 1), "pads": (1, 0, 2, 1)},
    {"dilations": (2, 3), "pads": (2, 2, 2, 2)},
    {"strides": (2, 2), "dilations": (1, 2), "pads": (0, 1, 1, 3)},
]


@pytest.mark.parametrize("attrs", GEOMETRY)
@pytest.mark.parametrize(("method", "rank"), [("svd", (3,)), ("spatial", (4,)), ("tucker", (3, 4)), ("cp", (2,))])
def test_strides_pads_and_dilations_are_kept(method: str, rank: tuple[int, ...], attrs: dict[str, Any]) -> None:
    x = entry(2, 6, 13, 11)
    weights = constructed(method, rank, whole_piece((8, 6, 3, 3)))
    before = graph_of(x, convolution(weights, x, RNG(3).standard_normal(8), **attrs))
    (layer,), _ = candidates(before)
    one = splittable(layer, [method], None, 1.0, None)
    assert not isinstance(one, str)
    piece = next(f for f in one.forms).method.pieces
    form = next(f for f in one.forms)
    form = type(form)(form.method, rank, tuple(piece(_piece(layer), rank)), 0)
    after, _ = split_graph(before, [split(layer, form, Spread.unknown(layer))])
    feed = RNG(4).standard_normal((2, 6, 13, 11)).astype(np.float32)
    wanted, found = run(before, [feed])[0], run(after, [feed])[0]
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() <= 5e-3 * np.abs(wanted).max()


def _piece(layer: Any) -> Piece:
    from edgec.compiler.compress.low_rank.pieces import piece_of

    return piece_of(layer)


@pytest.mark.parametrize("shape", [(5, 16), (2, 5, 16), (2, 3, 5, 16)])
def test_matrix_products_are_split(shape: tuple[int, ...]) -> None:
    x = entry(*shape)
    w = (RNG(0).standard_normal((16, 4)) @ RNG(1).standard_normal((4, 24))).astype(np.float32)
    y = build("Add", build("MatMul", x, const(w), label="m"), const(RNG(2).standard_normal(24).astype(np.float32)))
    before = graph_of(x, y)
    after, session = calibrated(before, "low-rank{energy=0.9999}")
    assert ops(after) == ["MatMul", "MatMul", "Add"]
    assert [n.args[1].shape for n in after.nodes() if n.op == "MatMul"] == [(16, 4), (4, 24)]
    feed = RNG(3).standard_normal(shape).astype(np.float32)
    assert np.allclose(run(before, [feed])[0], run(after, [feed])[0], atol=1e-3)
    assert session.compression is not None
    (record,) = session.compression.layers
    assert (record.before, record.after, record.reason) == ((16, 24), (16, 4), "svd 4")
    assert record.macs_after * 16 * 24 == record.macs_before * (16 + 24) * 4


def test_calibration_data_lowers_the_error_and_corrects_the_mean() -> None:
    x = entry(1, 16, 8, 8)
    before = graph_of(x, convolution(RNG(0).standard_normal((24, 16, 1, 1)), x))
    mix = RNG(1).standard_normal((16, 16)) * np.logspace(0, -1.5, 16)
    noise = RNG(2).standard_normal((24, 16, 64))
    feeds = (np.einsum("ij,njk->nik", mix, noise) + 2).reshape(24, 1, 16, 8, 8).astype(np.float32)
    unknown, notes = calibrated(before, "low-rank{macs=0.5}")
    known, _ = calibrated(before, "low-rank{macs=0.5}", feeds[:16])
    plain, _ = calibrated(before, "low-rank{macs=0.5, repair=false}", feeds[:16])
    assert any("no calibration data" in note for note in notes.notes)
    errors = [error(before, graph, feeds[16:]) for graph in (unknown, plain, known)]
    assert errors[2] < 0.5 * min(errors[:2])
    means = [np.mean([run(g, [f])[0] for f in feeds], axis=(0, 1, 3, 4)) for g in (before, known)]
    assert np.abs(means[0] - means[1]).max() < 0.05 * np.abs(means[0]).max()


def test_layers_behind_a_split_are_solved_again() -> None:
    x = entry(1, 8, 10, 10)
    y = build("Relu", convolution(RNG(0).standard_normal((16, 8, 3, 3)), x))
    before = graph_of(x, convolution(RNG(1).standard_normal((4, 16, 3, 3)), y))
    feeds = RNG(2).standard_normal((48, 1, 8, 10, 10)).astype(np.float32)
    errors = []
    for repair in ("false", "true"):
        after, _ = calibrated(before, f"low-rank{{total=0.7, repair={repair}}}", feeds[:32])
        errors.append(error(before, after, feeds[32:]))
    assert errors[1] < 0.9 * errors[0]


def test_what_cannot_be_split_says_why() -> None:
    x = entry(1, 4, 6, 6)
    grouped = convolution(RNG(0).standard_normal((4, 2, 3, 3)), x, group=2)
    depthwise = convolution(RNG(0).standard_normal((4, 1, 3, 3)), grouped, group=4)
    product = build("MatMul", depthwise, build("Transpose", depthwise, perm=(0, 1, 3, 2)))
    stack = build("MatMul", product, const(RNG(1).standard_normal((4, 2, 5)).astype(np.float32)))
    _, reasons = candidates(graph_of(x, stack))
    assert [reason.split(":")[0] for reason in reasons.values()] == [
        "it has 2 groups",
        "depthwise",
        "its weights are computed",
        "its weights are 1 stacks of matrices",
    ]
    after, session = calibrated(graph_of(x, depthwise), "low-rank{macs=0.5}")
    assert "nothing is split" in session.notes[-1]
    assert "groups" in session.notes[-1]
    assert ops(after) == ["Conv", "Conv"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("macs=1.5", "macs=1.5; expected a share between 0 and 1"),
        ("total=0", "total=0; expected a share"),
        ("energy=-0.1", "energy=-0.1; expected a share"),
        ("macs=0.5, energy=0.9", "macs and energy are given; expected one of them"),
        ("min-gain=0", "min-gain=0; expected a factor"),
        ("samples=0", "samples=0; expected at least 1"),
        ("method=fft", "method"),
    ],
)
def test_bad_options_are_refused(options: str, message: str) -> None:
    x = entry(1, 4)
    with pytest.raises(EdgecError, match=message):
        calibrated(graph_of(x, build("MatMul", x, const(np.ones((4, 4), np.float32)))), f"low-rank{{{options}}}")


def test_calibration_data_that_does_not_fit_is_refused() -> None:
    x = entry(1, 4, 6, 6)
    before = graph_of(x, convolution(RNG(0).standard_normal((8, 4, 3, 3)), x))
    with pytest.raises(EdgecError, match="expected N samples of"):
        calibrated(before, "low-rank{macs=0.5}", np.zeros((8, 3, 6, 6), np.float32))


def test_splits_are_kept_only_where_they_win() -> None:
    x = entry(1, 8, 14, 14)
    before = graph_of(x, build("Relu", convolution(RNG(0).standard_normal((8, 8, 1, 1)), x)))
    after, session = calibrated(before, "low-rank{macs=0.5}", target="x86-avx512")
    assert ops(after) == ["Conv"]
    assert session.compression is not None
    (record,) = session.compression.layers
    assert record.reason.startswith("modelled")
    assert record.cost_before is not None
    wide = entry(1, 512, 28, 28)
    before = graph_of(wide, build("Relu", convolution(RNG(0).standard_normal((512, 512, 1, 1)), wide)))
    after, session = calibrated(before, "low-rank{macs=0.5}", target="x86-avx512")
    assert ops(after) == ["Conv", "Conv"]
    assert session.compression is not None
    (record,) = session.compression.layers
    assert record.cost_after is not None
    assert record.cost_before is not None
    assert record.cost_after < 0.7 * record.cost_before
    assert record.after[0] % 16 == 0


def test_export_and_import_keep_a_split_graph() -> None:
    x = entry(1, 6, 9, 9)
    before = graph_of(x, convolution(RNG(0).standard_normal((8, 6, 3, 3)), x, pads=(1, 1, 1, 1)))
    after, _ = calibrated(before, "low-rank{macs=0.5}")
    again = run_pipeline(import_model(export_model(after)), "canonicalize, fold", Session())
    feed = RNG(1).standard_normal((1, 6, 9, 9)).astype(np.float32)
    assert np.allclose(run(after, [feed])[0], run(again, [feed])[0], atol=1e-5)
    assert ops(again) == ops(after)


def test_the_least_error_is_chosen_for_a_saving() -> None:
    offers = {
        "a": [Offer("a1", 10, 1.0), Offer("a2", 20, 5.0)],
        "b": [Offer("b1", 10, 0.5), Offer("b2", 30, 9.0)],
        "c": [Offer("c1", 10, 20.0)],
    }
    assert {k: o.form for k, o in chosen(offers, 20).items()} == {"a": "a1", "b": "b1"}
    assert {k: o.form for k, o in chosen(offers, 30).items()} == {"a": "a2", "b": "b1"}
    assert sum(o.saved for o in chosen(offers, 1000).values()) == 60
    assert chosen(offers, 0) == {}
    assert [o.form for o in frontier([Offer("x", 10, 2.0), Offer("y", 20, 3.0), Offer("z", 15, 9.0)])] == ["y"]


def test_ranks_are_whole_vectors_where_there_is_room() -> None:
    assert steps(64, 16) == [16, 32, 48]
    assert steps(16, 16) == [4, 8, 12]
    assert len(steps(2048, 16)) <= 16
    assert steps(1, 16) == []


def test_weights_are_seen_as_outputs_by_inputs() -> None:
    x = entry(1, 3)
    (layer,), _ = candidates(graph_of(x, build("MatMul", x, const(np.ones((3, 5), np.float32)))))
    assert weights_of(layer).shape == (5, 3)
