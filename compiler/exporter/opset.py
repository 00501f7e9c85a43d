"""The least opset whose definitions say what nodes of the newest form say."""

from __future__ import annotations

from collections.abc import Iterable

import onnx

NEWEST = 21
OLDEST = 13  # scales per channel are known from here on


def least_opset(nodes: Iterable[onnx.NodeProto]) -> int:
    """13 to 21. A node fits a version that knows its attributes and takes as many inputs."""
    return max((_least(node) for node in nodes), default=OLDEST)


def _least(node: onnx.NodeProto) -> int:
    for version in range(OLDEST, NEWEST):
        if onnx.defs.has(node.op_type, version, ""):
            schema = onnx.defs.get_schema(node.op_type, version, "")
            if len(node.input) <= schema.max_input and all(a.name in schema.attributes for a in node.attribute):
                return version
    return NEWEST
