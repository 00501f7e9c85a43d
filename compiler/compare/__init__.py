"""`edgec verify`: what a bundle answers beside ONNX Runtime, and what may differ."""
