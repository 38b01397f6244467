"""The last word of a text, on LAMBADA or any rows of text."""

from qprof.tasks.lastword.data import Source
from qprof.tasks.lastword.protocols import BOS, PROTOCOLS
from qprof.tasks.lastword.task import LastWordTask
from qprof.tasks.lastword.text_task import Batch

__all__ = ["BOS", "PROTOCOLS", "Batch", "LastWordTask", "Source"]
