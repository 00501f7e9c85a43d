"""Layers of very many inputs are quantized part by part, in bounded memory."""

from __future__ import annotations

from typing import Any

import pytest

from edgec.compiler.quantize import reconstruct, rounding
from edgec.compiler.quantize.rounding import damped
from tests.support.float_models import MODELS, data, quantized


def test_layers_of_very_many_inputs_are_rounded_part_by_part(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def counted(found: Any) -> Any:
        sizes.append(found.products.shape[-1])
        return damped(found)

    monkeypatch.setattr(rounding, "damped", counted)
    monkeypatch.setattr(reconstruct, "TOGETHER", 40)
    plain = "canonicalize, fold, quantize{learn=false, correct=false}"
    model = MODELS["residual"]()
    _, nearest, _ = quantized(model, data(), plain)
    _, learned, _ = quantized(model, data())
    assert max(sizes) <= 40 and 36 in sizes
    assert (learned.output_sqnr or 0) > (nearest.output_sqnr or 0) + 0.3
