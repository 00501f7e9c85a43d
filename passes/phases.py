"""Convolutions that kernels know badly become others: transposed ones phases of their stride, volumes images."""

from __future__ import annotations

from edgec.compiler.ir import Graph
from edgec.compiler.pipeline import close, graph_pass
from edgec.compiler.rewrite import rewrite
from edgec.compiler.session import Session

from .group_edges import padding_before_narrow_groups
from .merged_groups import groups_that_fill_vectors
from .narrow_groups import several_filters_per_channel
from .pixel_folds import convolution_over_patches
from .strides_folded import strides_into_channels
from .transposed import transposed_into_phases
from .volumes import pooled_planes, rows_without_edges, volumes_into_images, volumes_of_bytes_into_images
from .wide_windows import padding_before_wide_windows

RULES = [
    transposed_into_phases,
    convolution_over_patches,
    volumes_into_images,
    volumes_of_bytes_into_images,
    rows_without_edges,
    pooled_planes,
    several_filters_per_channel,
    padding_before_narrow_groups,
    groups_that_fill_vectors,
    strides_into_channels,
    padding_before_wide_windows,
]


@graph_pass(
    "phases", promise=close, after={"canonicalize": "it folds scales into transposed convolutions", "fold": "weights"}
)
def phases(graph: Graph, *, session: Session) -> Graph:
    """Convolutions that kernels know badly become others: transposed, of patches, volumes, small groups."""
    return rewrite(graph, RULES, session)
