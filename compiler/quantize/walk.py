"""What values are while a quantized graph is made, node after node, beside the float model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ..cores import Cores
from ..ir import Node, Value
from ..ops.common import Tensor
from .held import Held, Store
from .short_scales import End


@dataclass
class Walk:
    """Values of all samples, in float and as the quantized layers make them; samples are shared out over `cores`, and
    what memory does not hold of them is in the `store`."""

    cores: Cores
    ends: Mapping[Node, End]
    store: Store
    real: dict[Value, Sequence[Tensor]] = field(default_factory=dict)
    rough: dict[Value, Sequence[Tensor]] = field(default_factory=dict)

    def each(self, work: Callable[[int], Tensor], count: int) -> Held:
        """`work(number)` of every sample."""
        return Held(self.cores.each(lambda number: self.store.put(work(number)), range(count)))
