"""Post-training quantization: calibration data, ranges, methods that keep accuracy, and the QDQ graph they lead to."""
