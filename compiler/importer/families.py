"""The families of converters, and of rules for sizes that depend on data. Importing this module fills the tables."""

from . import (  # noqa: F401
    constants,
    control,
    einsum,
    elementwise,
    folds,
    linear,
    loops,
    normalizations,
    quantization,
    randomness,
    recurrence,
    scans,
    scattering,
    selection,
    sequences,
    shapes,
    sorting,
    text,
    unpooling,
    windows,
)
from .classic import coupling, features, linear_models, support_vectors, trees  # noqa: F401
from .microsoft import attentions, decoders, fused, quantized  # noqa: F401
from .resampling import grids, resize  # noqa: F401
from .signals import signals, spectral  # noqa: F401
from .sized import arithmetic, maps, sizes, writes  # noqa: F401
