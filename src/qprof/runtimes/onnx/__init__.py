"""ONNX Runtime: `.onnx` files, and the variants that its own tools make of them. See README.md beside this file."""
