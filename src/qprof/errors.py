"""Typed errors: the layers raise them, `qprof.cli` alone turns them into a message and an exit code."""

from __future__ import annotations


class QprofError(Exception):
    """Base of every error that qprof raises on purpose.

    The text is one line: what is wrong, where, and what to do about it.
    """

    exit_code = 2


class ProfileError(QprofError):
    """A profile cannot be read, or holds a key or value that is not allowed."""


class ModelError(QprofError):
    """A model file cannot be read, made, or executed by the runtime."""


class DataError(QprofError):
    """A data set (annotations, images, inputs) cannot be read or does not fit."""


class StoreError(QprofError):
    """A run directory cannot be written, read or resumed."""


class WorkerError(QprofError):
    """A worker process died or broke its protocol; the message names the variant."""


class MissingExtraError(QprofError):
    """An optional package is needed; the message names the extra that brings it."""
