"""Channels are evened out behind a Clip as far as its limits leave them what they are."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from edgec.compiler.calibration.request import SETTING, needed_calibration, requested
from edgec.compiler.calibration.statistics import channel_statistics
from edgec.compiler.interpret import interpret
from edgec.compiler.quantize.channels import Channelled
from edgec.compiler.quantize.equalize import axes_of, equalize
from edgec.compiler.quantize.placement import place
from edgec.compiler.session import Session
from tests.support.float_models import Array, Net, canonical, data


def clipped(pooled: bool) -> onnx.ModelProto:
    """Channels of very different size, cut off at 6, then perhaps averaged, which makes them smaller."""
    net = Net()
    w = net.random.normal(size=(8, 8, 3, 3)) * 0.17 * np.geomspace(0.05, 2.0, 8).reshape(-1, 1, 1, 1)
    x = net.node("Conv", "x", net.constant(w), net.constant(np.zeros(8)), pads=[1, 1, 1, 1])
    x = net.node("Clip", x, net.constant(np.float32(0)), net.constant(np.float32(6)))
    if pooled:
        x = net.node("AveragePool", x, kernel_shape=[3, 3], strides=[3, 3])
    return net.model(net.conv(x, 8, 8))


@pytest.mark.parametrize("pooled", [False, True])
def test_a_clip_cuts_off_what_it_did(pooled: bool) -> None:
    graph = canonical(clipped(pooled))
    session = Session(settings={SETTING: requested(data(), None, "quantize")})
    calibration = needed_calibration(session, graph, "quantize")
    plan = place(graph)
    channels = Channelled(plan)
    measured = channel_statistics(graph, axes_of(plan, channels), calibration, lambda *_: None, 1)
    made = equalize(plan, channels, measured).graph
    feeds: list[Array] = [next(iter(feed.values())) for feed in calibration.feeds()]
    changed = False
    for x in feeds:
        was, now = (np.asarray(interpret(g, {"x": x})["y"], np.float32) for g in (graph, made))
        np.testing.assert_allclose(now, was, rtol=1e-4, atol=1e-4)
        changed |= not np.array_equal(now, was)
    assert changed  # weights have factors
