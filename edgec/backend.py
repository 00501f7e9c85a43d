"""`edgec.backend`: the `onnx.backend.base.Backend` interface."""

from edgec.compiler.backend import Backend, Rep, is_compatible, prepare, run_model, run_node, supports_device

__all__ = ["Backend", "Rep", "is_compatible", "prepare", "run_model", "run_node", "supports_device"]
