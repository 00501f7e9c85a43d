"""Ranges with room for further samples, where it costs nothing."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from edgec.compiler.calibration.request import SETTING, needed_calibration, requested
from edgec.compiler.ir import Value
from edgec.compiler.quantize.calibrate import observed, scales
from edgec.compiler.quantize.margins import MORE, MORE_MANY, QUIET, WIDEST, factors, limits, widened
from edgec.compiler.quantize.placement import Placement, place
from edgec.compiler.quantize.ranges import Scale
from edgec.compiler.session import Session
from tests.support.float_models import Net, canonical, data


def test_what_is_quiet_gets_room_and_what_is_loud_none() -> None:
    noise = np.asarray([1.0, 0.5, 0.02, 0.01, 1e-6, 0.0, 0.004])
    few = np.ones(7, bool)
    grown = factors(noise, np.full(7, WIDEST), few)
    assert (grown[:2] == 1).all() and (grown[3:] == WIDEST).all()
    assert noise[2] * grown[2] ** 2 == pytest.approx(QUIET * noise.sum())
    held = factors(noise, np.where(noise == 0.01, 1.0, WIDEST), few)
    assert held[3] == 1 and (np.delete(held, 3) == np.delete(grown, 3)).all()
    assert (factors(np.zeros(3), np.full(3, WIDEST), few[:3]) >= 1).all()


def test_the_price_of_room_is_limited() -> None:
    noise, few = np.ones(200), np.arange(200) < 50
    for kind, price in ((few | True, MORE), (few & False, MORE_MANY), (few, MORE)):
        spent = noise * (factors(noise, np.full(200, WIDEST), kind) ** 2 - 1)
        assert spent.sum() == pytest.approx(price * noise.sum())
        assert spent[~kind].sum() <= MORE_MANY * noise.sum() * 1.001


def quiet(limited: bool) -> onnx.ModelProto:
    """A branch whose part of the answer is small, beside one that is all of it."""
    net = Net()
    loud = net.node("Relu", net.conv("x", 8, 16))
    soft = net.conv(loud, 16, 16)
    end = net.node("Clip", soft, net.constant(0.0), net.constant(1.0)) if limited else net.node("Relu", soft)
    hushed = net.conv(end, 16, 8, 1, gain=0.001)
    return net.model(net.node("Add", net.conv(loud, 16, 8, 1), hushed))


def ranges(limited: bool) -> tuple[Placement, dict[Value, Scale], dict[Value, Scale], Value]:
    graph = canonical(quiet(limited))
    session = Session(settings={SETTING: requested(data(), None, "quantize")})
    calibration = needed_calibration(session, graph, "quantize")
    plan = place(graph)
    tight = scales(plan, observed(plan, calibration, lambda *_: None), "auto")
    wide = widened(plan, tight, list(calibration.feeds())[:2], lambda *_: None, 1)
    (end,) = (v for v in plan.points if v.node.op == "Clip" or (v.node.op == "Relu" and v != plan.layers[1].input))
    return plan, tight, wide, end


def test_what_hardly_shows_in_the_answer_gets_room() -> None:
    plan, tight, wide, end = ranges(limited=False)
    assert wide[end].high == pytest.approx(WIDEST * tight[end].high, rel=1e-3) and wide[end].low == 0.0
    loud = plan.layers[1].input
    assert wide[loud] == tight[loud]
    (given,) = plan.graph.inputs
    assert wide[given] == tight[given]


def test_nothing_is_wider_than_what_a_clip_lets_through() -> None:
    plan, tight, wide, end = ranges(limited=True)
    (group,) = (g for g in plan.groups if end in g.values)
    assert limits(group) == (0.0, 1.0)
    assert wide[end].high <= 1.0 + 1e-6 and wide[end] == tight[end]
