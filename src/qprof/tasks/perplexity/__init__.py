"""Perplexity of running text, word by word, byte by byte and token by token."""

from qprof.tasks.perplexity.task import PerplexityTask
from qprof.tasks.perplexity.windows import Window, windows_of

__all__ = ["PerplexityTask", "Window", "windows_of"]
