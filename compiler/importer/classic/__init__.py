"""Converters of domain ai.onnx.ml: features, linear models, support vector machines, trees."""
