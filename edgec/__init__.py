"""edgec: compiles a trained ONNX model into a native library for the edge."""
