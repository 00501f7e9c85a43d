"""Converters of domain com.microsoft, ONNX Runtime's own operators."""
