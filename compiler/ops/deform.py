"""What a deformable convolution multiplies with its weights: the elements under each window, moved by offsets."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from ..errors import IRError
from ..ir import Type
from ..op import REQUIRED, op
from .common import FLOATS, Ints, Tensor, dtype_of, equal_types, require, widened
from .sampling import sampled, taps, wide_kind


@dataclass(frozen=True)
class Window:
    """The attributes of the node: one entry per spatial axis, `pads` begins first; `group` of channels, of offsets."""

    kernel_shape: Ints
    strides: Ints
    pads: Ints
    dilations: Ints
    group: int
    offset_group: int

    @property
    def size(self) -> int:
        return prod(self.kernel_shape)

    @property
    def rank(self) -> int:
        return len(self.kernel_shape)

    def results(self, shape: Ints) -> Ints:
        """Spatial sizes of the result for an argument of `shape`."""
        reach = [(k - 1) * d + 1 for k, d in zip(self.kernel_shape, self.dilations, strict=True)]
        padded = [n + a + b for n, a, b in zip(shape[2:], self.pads, self.pads[self.rank :], strict=False)]
        return tuple((n - r) // s + 1 for n, r, s in zip(padded, reach, self.strides, strict=True))


def _deformed(x: Type, offset: Type, *mask: Type, **attrs: Ints | int) -> tuple[Type, ...]:
    require(x, FLOATS)
    equal_types(x, offset, *mask)
    w = Window(**attrs)  # type: ignore[arg-type]
    lengths = {len(w.strides), len(w.dilations), len(w.pads) / 2, len(x.shape) - 2}
    if not 1 <= w.rank <= 3 or lengths != {w.rank} or min((*w.kernel_shape, *w.strides, *w.dilations)) < 1:
        raise IRError(f"a window of {list(w.kernel_shape)} does not fit {x} with 1 to 3 spatial axes")
    if min(w.pads) < 0 or 0 in x.shape[2:]:
        raise IRError(f"pads {list(w.pads)} cut {x}, or it has no elements")
    if any(g < 1 or x.shape[1] % g for g in (w.group, w.offset_group)):
        raise IRError(f"the channels of {x} do not part into {w.group} groups, and {w.offset_group} of offsets")
    sizes, count = w.results(x.shape), w.offset_group * w.size
    if min(sizes) < 0 or offset.shape != (x.shape[0], count * w.rank, *sizes):
        raise IRError(f"offsets are {offset}; expected {[x.shape[0], count * w.rank, *sizes]}")
    if mask and mask[0].shape != (x.shape[0], count, *sizes):
        raise IRError(f"the mask is {mask[0]}; expected {[x.shape[0], count, *sizes]}")
    return (Type(x.dtype, (x.shape[0], w.size * x.shape[1], *sizes)),)


def deform_columns(x: Tensor, offset: Tensor, *mask: Tensor, **attrs: Ints | int) -> Tensor:
    """[N, group x window x channels, sizes]: linear between elements, zero outside.

    Offsets are [N, groups of offsets, window, axes, sizes]. The mask, a number per element of a window, weighs it.
    """
    w = Window(**attrs)  # type: ignore[arg-type]
    sizes, images = offset.shape[2:], x.shape[0] * w.offset_group
    points = w.size * prod(sizes)
    moved = widened(offset).reshape(images, w.size, w.rank, *sizes)
    at = np.indices(w.kernel_shape).reshape(w.rank, w.size, *(1,) * w.rank)
    axes = []
    for k, out in enumerate(np.indices(sizes)):
        place = out * w.strides[k] - w.pads[k] + at[k] * w.dilations[k]
        position = (moved[:, :, k] + place.astype(moved.dtype)).reshape(images, points)
        axes.append(taps(position, x.shape[2 + k], "linear", "zeros", True))
    if mask:
        weight = widened(mask[0]).reshape(images, points)
        axes[0] = [(p, factor * weight) for p, factor in axes[0]]
    y = sampled(x.reshape(images, x.shape[1] // w.offset_group, *x.shape[2:]), axes, wide_kind(dtype_of(x)), True)
    y = y.reshape(x.shape[0], w.group, x.shape[1] // w.group, w.size, *sizes)
    return np.swapaxes(y, 2, 3).reshape(x.shape[0], x.shape[1] * w.size, *sizes).astype(x.dtype)


op(
    "Edgec.DeformColumns",
    (2, 3),
    _deformed,
    deform_columns,
    kind="other",
    attrs={
        "kernel_shape": REQUIRED,
        "strides": REQUIRED,
        "pads": REQUIRED,
        "dilations": REQUIRED,
        "group": 1,
        "offset_group": 1,
    },
    alone=True,
)
