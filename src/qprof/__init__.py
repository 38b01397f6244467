"""qprof: runs the quantized variants of one model side by side and explains, with evidence, why they differ."""

__version__ = "0.1.0"
