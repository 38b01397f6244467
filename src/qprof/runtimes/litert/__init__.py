"""LiteRT (TensorFlow Lite): load a `.tflite`, run it, and time every op inside it."""
