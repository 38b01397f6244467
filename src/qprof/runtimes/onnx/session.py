"""One `.onnx` in one session of ONNX Runtime: tensors in, tensors out, nothing timed."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qprof.errors import ModelError
from qprof.record.model import Loaded
from qprof.record.phases import INFERENCE
from qprof.record.tensors import TensorSpec
from qprof.runtimes.onnx.sections import OnnxOptions
from qprof.runtimes.tool_output import first_line

#: What a section calls a provider -> its name in ONNX Runtime.
PROVIDERS: Mapping[str, str] = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "xnnpack": "XnnpackExecutionProvider",
}
_DISTRIBUTIONS = {"cuda": "onnxruntime-gpu", "openvino": "onnxruntime-openvino"}
_LEVELS = {
    "none": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
}
#: ONNX Runtime's name of an input's type -> NumPy's.
_DTYPES = {
    "float": "float32",
    "double": "float64",
    "float16": "float16",
    "bool": "bool",
    **{f"{sign}int{bits}": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}
#: ONNX Runtime speaks up from errors on.
_ERRORS = 3


class OnnxModel:
    """A `.onnx` file, loaded and ready to run; satisfies `qprof.runtimes.base.Model`.

    Raises `ModelError`: the file is none that this ONNX Runtime can run, or takes what is no tensor of numbers.
    """

    def __init__(self, path: Path, options: OnnxOptions) -> None:
        self.path, self.options = path, options
        self.session = self._open(str(path))
        with runtime_errors(path, "load"):
            inputs, outputs = self.session.get_inputs(), self.session.get_outputs()
            shapes = _shapes(path, inputs, options)
            self._specs = [self._spec(given, shape, "input") for given, shape in zip(inputs, shapes, strict=True)]
            self._outputs = [self._spec(given, _settled(given.shape, {}), "output") for given in outputs]
            self._values: list[Any] = []
            self._bind()
        # Where the file leaves an output's shape open, an inference on zeros tells it.
        known = all(size >= 0 for spec in self._specs for size in spec.shape)
        if known and any(size < 0 for spec in self._outputs for size in spec.shape):
            self._outputs = self._with_shapes()
        self.loaded = Loaded(
            inputs=self._specs, outputs=self._outputs, op_types=list(options.last_ops), notes=self._fallbacks()
        )

    # -- opened -------------------------------------------------------------------------------------------------------

    def _open(self, model: str | bytes, **settings: Any) -> Any:
        """A session of a file or of a model's bytes. `settings`: more of `onnxruntime.SessionOptions`."""
        import onnxruntime as ort

        wanted, options = self._providers(), ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = self.options.threads, 1
        options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, _LEVELS[self.options.optimization])
        options.log_severity_level = _ERRORS
        if isinstance(model, bytes):  # tensors in other files are looked for beside the model
            options.add_session_config_entry(
                "session.model_external_initializers_file_folder_path", str(self.path.resolve().parent)
            )
        for name, value in settings.items():
            setattr(options, name, value)
        with runtime_errors(self.path, "load"):
            disabled = {"disabled_optimizers": self.options.disabled} if self.options.disabled else {}
            session = ort.InferenceSession(model, options, providers=wanted, **disabled)
            session.disable_fallback()
        missing = [name for name, _ in wanted if name not in session.get_providers()]
        if missing:
            raise ModelError(
                f"{self.path}: {missing[0]} is installed and does not start, and ONNX Runtime would run all on the CPU "
                "without a word; check its libraries (a log line of ONNX Runtime names the missing one)"
            )
        return session

    def _providers(self) -> list[tuple[str, dict[str, Any]]]:
        import onnxruntime as ort

        provider, number = self.options.provider, self.options.device.partition(":")[2]
        name = PROVIDERS[provider]
        available = ort.get_available_providers()
        if name not in available:
            package = _DISTRIBUTIONS.get(provider)
            remedy = f"install {package} in place of onnxruntime" if package else "build ONNX Runtime with it"
            raise ModelError(f"{self.path}: this ONNX Runtime has no {name}; {remedy}, or choose provider cpu")
        chosen: dict[str, Any] = {"device_id": int(number)} if provider == "cuda" and number else {}
        if provider == "xnnpack":
            chosen = {"intra_op_num_threads": str(self.options.threads)}
        cpu: list[tuple[str, dict[str, Any]]] = [(PROVIDERS["cpu"], {})]
        return cpu if provider == "cpu" else [(name, chosen), *cpu]

    def _spec(self, given: Any, shape: tuple[int, ...], what: str) -> TensorSpec:
        dtype = _DTYPES.get(str(given.type).removeprefix("tensor(").removesuffix(")"))
        if not str(given.type).startswith("tensor(") or dtype is None:
            raise ModelError(f"{self.path}: {what} {given.name!r} is {given.type}; only tensors of numbers are run")
        scale, zero_point = self.options.quantization.get(given.name, (None, None))
        signature = tuple(size if isinstance(size, int) else -1 for size in given.shape)
        return TensorSpec(given.name, shape, dtype, scale, zero_point, signature)

    def _bind(self) -> None:
        """Inputs and outputs bound once: what is timed is the inference, not dictionaries of arrays."""
        import onnxruntime as ort

        if not self._values:
            zeros = [np.zeros([max(size, 1) for size in spec.shape], spec.dtype) for spec in self._specs]
            self._values = [ort.OrtValue.ortvalue_from_numpy(array) for array in zeros]
        self._binding = self.session.io_binding()
        for spec, value in zip(self._specs, self._values, strict=True):
            self._binding.bind_ortvalue_input(spec.name, value)
        for spec in self._outputs:
            self._binding.bind_output(spec.name, "cpu")
        self.run_once: Callable[[], None] = self._bare_run()

    def _bare_run(self) -> Callable[[], None]:
        """The call underneath `InferenceSession.run_with_iobinding`, where this release of ONNX Runtime has it."""
        inner = getattr(self.session, "_sess", None)
        bound = getattr(self._binding, "_iobinding", None)
        if inner is None or bound is None or not hasattr(inner, "run_with_iobinding"):
            return functools.partial(self.session.run_with_iobinding, self._binding)
        return functools.partial(inner.run_with_iobinding, bound, None)

    def _with_shapes(self) -> list[TensorSpec]:
        from dataclasses import replace

        try:
            self.invoke()
        except ModelError:
            # Zeros may be no input for it, and what it says of the task's own is said when these are run.
            return [replace(spec, shape=tuple(1 if n < 0 else n for n in spec.shape)) for spec in self._outputs]
        found = self.outputs()
        return [replace(spec, shape=array.shape) for spec, array in zip(self._outputs, found, strict=True)]

    def _fallbacks(self) -> list[str]:
        return []

    # -- run ----------------------------------------------------------------------------------------------------------

    def set_inputs(self, arrays: Sequence[NDArray[Any]]) -> None:
        """Copy one array per input into the model; shapes and dtypes are those of `loaded.inputs`."""
        if len(arrays) != len(self._specs):
            raise ModelError(f"{self.path}: {len(arrays)} arrays for {len(self._specs)} inputs; give one array each")
        with runtime_errors(self.path, "set an input of"):
            for spec, value, array in zip(self._specs, self._values, arrays, strict=True):
                if array.shape != spec.shape or array.dtype != spec.dtype:
                    raise ModelError(
                        f"{self.path}: {array.dtype}{list(array.shape)} for input {spec.name!r} of "
                        f"{spec.dtype}{list(spec.shape)}"
                    )
                value.update_inplace(np.ascontiguousarray(array))

    def invoke(self) -> None:
        """Run one inference."""
        with runtime_errors(self.path, "run"):
            self.run_once()

    def outputs(self) -> list[NDArray[Any]]:
        """Copies of the outputs, as stored."""
        with runtime_errors(self.path, "read an output of"):
            return [np.array(array) for array in self._binding.copy_outputs_to_cpu()]

    def enter(self, phase: str) -> None:
        """ONNX models have one phase, and keep nothing between inferences."""
        if phase != INFERENCE:
            raise ModelError(f"{self.path}: has no phase {phase!r}; its only one is {INFERENCE!r}")

    def memory_bytes(self) -> dict[str, int]:
        """Nothing: ONNX Runtime tells no account of its own on a CPU."""
        return {}


def _shapes(path: Path, inputs: Sequence[Any], options: OnnxOptions) -> list[tuple[int, ...]]:
    """The shapes to be run: as the file has them, open axes as asked, the first of an input as the batch; -1 where one
    stays open. An axis of one name has one size throughout."""
    names = [given.name for given in inputs]
    asked: dict[int, Sequence[int]] = {}
    for key, shape in options.input_shapes.items():
        if key not in names and not (key.isdigit() and int(key) < len(names)):
            known = ", ".join(f"{i} = {name}" for i, name in enumerate(names))
            raise ModelError(f"input_shapes: {path} has no input {key!r}; its inputs are {known}")
        position = names.index(key) if key in names else int(key)
        own = list(inputs[position].shape)
        if len(own) != len(shape) or any(isinstance(o, int) and o != n for o, n in zip(own, shape, strict=True)):
            written = ["open" if not isinstance(size, int) else size for size in own]
            raise ModelError(
                f"input_shapes: {path} cannot have input {key!r} as {list(shape)}: its file says {written}"
            )
        asked[position] = shape
    sizes: dict[str, int] = {}
    for position, wanted in asked.items():
        sizes |= {o: n for o, n in zip(inputs[position].shape, wanted, strict=True) if isinstance(o, str)}
    for given in inputs:
        if given.shape and isinstance(given.shape[0], str) and len(given.shape) > 1:
            sizes.setdefault(given.shape[0], options.batch)
    found = []
    for position, given in enumerate(inputs):
        settled = tuple(asked.get(position, ())) or _settled(given.shape, sizes)
        found.append((options.batch, *settled[1:]) if len(settled) > 1 and settled[0] < 0 else settled)
    return found


def _settled(shape: Sequence[int | str | None], sizes: Mapping[str, int]) -> tuple[int, ...]:
    return tuple(
        size if isinstance(size, int) and size >= 0 else sizes.get(size, -1) if isinstance(size, str) else -1
        for size in shape
    )


@contextlib.contextmanager
def runtime_errors(path: Path, verb: str) -> Iterator[None]:
    """ONNX Runtime raises types of its own with texts of several lines: keep the first."""
    try:
        yield
    except ModelError:
        raise
    except Exception as error:
        if not type(error).__module__.startswith("onnxruntime") and not isinstance(error, (RuntimeError, ValueError)):
            raise
        raise ModelError(f"ONNX Runtime cannot {verb} {path}: {first_line(error)}") from error
