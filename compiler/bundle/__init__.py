"""The bundle: a compiled model as libraries, header, manifest, report and CMake package in one folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .manifest import ABI, SCHEMA, Bundle, read_bundle
from .names import identifier
from .place import check_output

if TYPE_CHECKING:
    from .write import write_bundle

__all__ = ["ABI", "SCHEMA", "Bundle", "check_output", "identifier", "read_bundle", "write_bundle"]


def __getattr__(name: str) -> Any:
    if name == "write_bundle":  # needs numpy; readers of manifests do not
        from .write import write_bundle

        return write_bundle
    raise AttributeError(name)
