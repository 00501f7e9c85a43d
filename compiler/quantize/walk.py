"""What values are while a quantized graph is made, node after node, beside the float model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..cores import Cores
from ..ir import Node, Value
from ..ops.common import Tensor
from .short_scales import End


@dataclass
class Walk:
    """Values of all samples, in float and as the quantized layers make them; samples are shared out over `cores`."""

    cores: Cores
    ends: Mapping[Node, End]
    real: dict[Value, list[Tensor]] = field(default_factory=dict)
    rough: dict[Value, list[Tensor]] = field(default_factory=dict)
