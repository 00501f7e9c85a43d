"""What one block of threads does step after step: recurrence, suppression, the best of a row."""

from . import recurrent_block, suppress_block, top_k_block  # noqa: F401
