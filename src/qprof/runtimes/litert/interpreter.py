"""One `.tflite` in one LiteRT interpreter: tensors in, tensors out, nothing timed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qprof.errors import ModelError
from qprof.record.model import Loaded
from qprof.record.phases import INFERENCE
from qprof.record.tensors import TensorSpec
from qprof.runtimes.litert.flatbuffer import read_again
from qprof.runtimes.litert.model_facts import ModelFacts
from qprof.runtimes.litert.signatures import arguments, notes_on_inputs
from qprof.runtimes.litert.state import state_of
from qprof.runtimes.litert.stored_formats import stored_formats
from qprof.runtimes.litert.valid_ranges import constants_of, shapes_of, valid_ranges

#: What a variant may ask for: LiteRT's default (XNNPACK on a CPU), or the interpreter's builtin kernels alone.
DELEGATES = ("xnnpack", "none")

_MAX_EXTENT = 2**31 - 1  # LiteRT's dimensions are ints


class LiteRTModel:
    """A `.tflite` file, loaded, allocated and ready to run; satisfies `qprof.runtimes.base.Model`.

    Args:
        path: the model file.
        threads: threads of the interpreter and of XNNPACK (at least 1).
        delegate: "xnnpack" or "none" (see `DELEGATES`).
        input_shapes: input name or position ("0", "1", ...) -> shape, for inputs that are to be resized.
        plugins: delegate objects from `load_delegate` to apply before XNNPACK (the op profiler).

    Raises:
        ModelError: the file is not a model that this LiteRT can run; one line with LiteRT's reason.
    """

    def __init__(
        self,
        path: Path,
        *,
        threads: int = 1,
        delegate: str = "xnnpack",
        input_shapes: Mapping[str, Sequence[int]] | None = None,
        facts: ModelFacts | None = None,
        plugins: Sequence[Any] = (),
    ) -> None:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        self.path = path
        self._resized: set[int] = set()  # inputs whose shape was asked for
        self.facts = facts if facts is not None else read_again(path)
        self._state = state_of(self.facts)
        if delegate not in DELEGATES:
            raise ModelError(f"{path}: there is no delegate {delegate!r}; choose one of {', '.join(DELEGATES)}")
        resolver = OpResolverType.AUTO if delegate == "xnnpack" else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        with _runtime_errors(path, "load"):
            self.interpreter = Interpreter(
                str(path),
                num_threads=threads,
                experimental_delegates=list(plugins) or None,
                experimental_op_resolver_type=resolver,
            )
            self._resize(input_shapes or {})
            self._allocate(input_shapes or {})
        self.run_once: Callable[[], None] = self._bare_invoke()
        # Held here too, and let go of after `run_once`, which keeps the interpreter underneath alive.
        self._plugins = tuple(plugins)
        self._read_details()

    def _bare_invoke(self) -> Callable[[], None]:
        """Interpreter.invoke() first looks for NumPy views into its tensors, at 1 µs a call: 1 % of a 90 µs model. No
        view is ever held here, so the call underneath serves, where this release of LiteRT has it."""
        invoke: Callable[[], None] = getattr(
            getattr(self.interpreter, "_interpreter", None), "Invoke", self.interpreter.invoke
        )
        return invoke

    def _resize(self, shapes: Mapping[str, Sequence[int]]) -> None:
        details = self.interpreter.get_input_details()
        names = [str(detail["name"]) for detail in details]
        called = [self._described(detail).names for detail in details]
        for key, shape in shapes.items():
            if any(key in own for own in called):
                position = next(number for number, own in enumerate(called) if key in own)
            elif key.isdigit() and int(key) < len(names):
                position = int(key)
            else:
                known = ", ".join(f"{i} = {name}" for i, name in enumerate(names))
                raise ModelError(f"input_shapes: {self.path} has no input {key!r}; its inputs are {known}")
            refused = f"input_shapes: {self.path} cannot have input {key!r} as {list(shape)}"
            if not all(1 <= extent <= _MAX_EXTENT for extent in shape):
                raise ModelError(f"{refused}; give whole numbers from 1 on")
            # XNNPACK does not object to another rank where it holds the op already. No dimension: the rank is open.
            rank = len(details[position]["shape"])
            if rank and len(shape) != rank:
                raise ModelError(f"{refused}; give all its {rank} dimensions")
            self.interpreter.resize_tensor_input(details[position]["index"], list(shape))
            self._resized.add(position)

    def _allocate(self, asked: Mapping[str, Sequence[int]]) -> None:
        try:
            self.interpreter.allocate_tensors()
        except RuntimeError as error:
            if not asked:
                raise
            inputs = [self.facts.subgraphs[0].tensors[index] for index in self.facts.subgraphs[0].inputs]
            wanted = ", ".join(f"{key} = {list(shape)}" for key, shape in asked.items())
            written = ", ".join(f"{one.name} = {list(one.shape_signature)}" for one in inputs)
            raise RuntimeError(
                f"{str(error).strip()}; input_shapes: it was given {wanted}, and its file says {written}, "
                "where -1 is open"
            ) from error

    def _read_details(self) -> None:
        with _runtime_errors(self.path, "read the names of"):  # which may be no UTF-8
            inputs = self.interpreter.get_input_details()
            outputs = self.interpreter.get_output_details()
        self._input_indices = [int(detail["index"]) for detail in inputs]
        self._output_indices = [int(detail["index"]) for detail in outputs]
        ranges = valid_ranges(self.facts, constants_of(self.interpreter), shapes_of(self.interpreter))
        specs = [
            replace(self._described(detail), valid_range=ranges.get(index))
            for detail, index in zip(inputs, self._input_indices, strict=True)
        ]
        self.loaded = Loaded(
            inputs=specs,
            outputs=[_spec(detail) for detail in outputs],
            op_types=[op.type for op in self.facts.subgraphs[0].ops],
            notes=[*notes_on_inputs(self.facts, specs, sorted(self._resized)), *filter(None, [self._state.says])],
            keeps_state=bool(self._state.says),
            resets_state=self._state.resets,
            facts={"stored": stored_formats(self.facts)},
        )

    def _described(self, detail: Mapping[str, Any]) -> TensorSpec:
        """An input with the name that a signature gives it."""
        return replace(_spec(detail), argument=arguments(self.facts).get(int(detail["index"])))

    def resize(self, input_shapes: Mapping[str, Sequence[int]]) -> None:
        """Give inputs other shapes and allocate again. Raises `ModelError` where the model cannot take them."""
        # LiteRT finds views by counting references to the object underneath, which `run_once` holds as well.
        self.run_once = self.interpreter.invoke
        try:
            with _runtime_errors(self.path, "resize"):
                self._resize(input_shapes)
                self._allocate(input_shapes)
        finally:
            self.run_once = self._bare_invoke()
        self._read_details()

    def set_inputs(self, arrays: Sequence[NDArray[Any]]) -> None:
        """Copy one array per input into the model; shapes and dtypes are those of `loaded.inputs`."""
        if len(arrays) != len(self._input_indices):
            raise ModelError(
                f"{self.path}: {len(arrays)} arrays for {len(self._input_indices)} inputs; give one array each"
            )
        with _runtime_errors(self.path, "set an input of"):
            for index, array in zip(self._input_indices, arrays, strict=True):
                self.interpreter.set_tensor(index, array)

    def invoke(self) -> None:
        """Run one inference."""
        with _runtime_errors(self.path, "run"):
            self.run_once()

    def outputs(self) -> list[NDArray[Any]]:
        """Copies of the outputs, as stored (still quantized)."""
        return [np.asarray(self.interpreter.get_tensor(index)) for index in self._output_indices]

    def enter(self, phase: str) -> None:
        """LiteRT models have one phase. A state in variable tensors begins anew, one in resource variables does not
        (see `state`)."""
        if phase != INFERENCE:
            raise ModelError(f"{self.path}: has no phase {phase!r}; its only one is {INFERENCE!r}")
        if self._state.tensors:
            with _runtime_errors(self.path, "reset the state of"):
                self.interpreter.reset_all_variables()

    def memory_bytes(self) -> dict[str, int]:
        """Nothing: LiteRT keeps no account of its own."""
        return {}

    def tensor_shapes(self) -> dict[int, tuple[int, ...]]:
        """Shapes of the main subgraph's tensors as allocated, by tensor index."""
        return {int(d["index"]): tuple(int(n) for n in d["shape"]) for d in self.interpreter.get_tensor_details()}


def _spec(detail: Mapping[str, Any]) -> TensorSpec:
    scales = detail["quantization_parameters"]["scales"]
    zero_points = detail["quantization_parameters"]["zero_points"]
    per_tensor = len(scales) == 1
    return TensorSpec(
        name=str(detail["name"]),
        shape=tuple(int(n) for n in detail["shape"]),
        dtype=np.dtype(detail["dtype"]).name,
        scale=float(scales[0]) if per_tensor else None,
        zero_point=int(zero_points[0]) if per_tensor and len(zero_points) else (0 if per_tensor else None),
        shape_signature=tuple(int(n) for n in detail["shape_signature"]),
    )


class _runtime_errors:
    """LiteRT reports everything as ValueError or RuntimeError with a text of several lines: keep its first."""

    def __init__(self, path: Path, verb: str) -> None:
        self.path, self.verb = path, verb

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, (ValueError, RuntimeError)) and not isinstance(error, ModelError):
            reason = " ".join(str(error).split())[:300]
            raise ModelError(f"LiteRT cannot {self.verb} {self.path}: {reason}") from error
