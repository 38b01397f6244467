"""Timing alone: random inputs, or arrays from files; no labels."""

from qprof.tasks.latency.task import LatencyTask

__all__ = ["LatencyTask"]
