"""Decides what runs a bundle here: this process, an emulator of its CPU, or one of its board."""

from __future__ import annotations

from .. import toolchain as tools
from ..bundle.emulate import Emulated
from ..bundle.firmware import Firmware, bare
from ..bundle.manifest import Bundle
from .model import Model


def executor(bundle: Bundle, level: str | None = None) -> Model | Emulated | Firmware:
    """What has a method `trace`: inputs to outputs, and to what lies in the arena after a step."""
    if tools.runs_here(bundle.manifest["triple"]):
        return Model(bundle, level=level)
    return Firmware(bundle.at(level or bundle.levels[0])) if bare(bundle) else Emulated(bundle, level)
