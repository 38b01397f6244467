"""The float .tflite that variants are made from: read, checked, and described as the quantizer sees it."""

from __future__ import annotations

import difflib
import fnmatch
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qprof.errors import ModelError
from qprof.runtimes.litert.objects import packed, read_content, unpack
from qprof.runtimes.litert.variant import refuse_unloadable

#: Op types whose weights the quantizer can store in fewer bits (ai-edge-quantizer 0.10.0, `default_policy.py`).
WEIGHTED_OPS = frozenset(
    {"BATCH_MATMUL", "CONV_2D", "DEPTHWISE_CONV_2D", "EMBEDDING_LOOKUP", "FULLY_CONNECTED", "TRANSPOSE_CONV"}
)

#: Op types whose weights it cannot store so. A large constant of any other op (an anchor grid, say) is no weight.
_FLOAT_WEIGHT_OPS = frozenset(
    {
        "BIDIRECTIONAL_SEQUENCE_LSTM",
        "BIDIRECTIONAL_SEQUENCE_RNN",
        "CONV_3D",
        "CONV_3D_TRANSPOSE",
        "LSTM",
        "RNN",
        "SVDF",
        "UNIDIRECTIONAL_SEQUENCE_LSTM",
        "UNIDIRECTIONAL_SEQUENCE_RNN",
    }
)

#: Op types that run other subgraphs.
CONTROL_FLOW = frozenset(
    {"CALL", "CALL_ONCE", "IF", "STABLEHLO_CASE", "STABLEHLO_COMPOSITE", "STABLEHLO_WHILE", "WHILE"}
)

#: What to do about a source that LiteRT does not load.
UNLOADABLE = "convert the model again for this version of LiteRT, with builtin ops alone"

_SIGNATURE = "serving_default"


@dataclass(frozen=True, slots=True)
class FloatOp:
    """One op of the float model: its type, its output tensors' names, and the name the quantizer's rules match."""

    type: str
    outputs: tuple[str, ...]
    scope: str
    subgraph: int
    weight_shape: tuple[int, ...] | None
    activations: frozenset[str] = frozenset()  # the float tensors that it reads and writes


@dataclass(frozen=True, slots=True)
class FloatModel:
    """A float .tflite in memory.

    `content` carries a signature over subgraph 0 even where the file has none (older converters wrote none), because
    the quantizer reaches a model's inputs only through one. `arguments` are that signature's names for the model's
    inputs, in the order of the inputs. `activations` are the float tensors of subgraph 0 that ops read or write.
    """

    path: Path
    content: bytes
    signature: str
    arguments: tuple[str, ...]
    ops: tuple[FloatOp, ...]
    activations: frozenset[str]
    io_scopes: tuple[str, ...]  # of the inputs and outputs of the subgraphs other than the first

    def op_types(self) -> Counter[str]:
        """How often the model has each op type."""
        return Counter(op.type for op in self.ops)

    def matching(self, layers: Sequence[str]) -> list[FloatOp]:
        """Ops whose name (an output tensor) equals one of `layers` or, where none does, matches it as a shell pattern.

        Raises:
            ModelError: a pattern matches no op.
        """
        chosen: list[FloatOp] = []
        for pattern in layers:
            found = [op for op in self.ops if pattern in op.outputs]
            # "matmul in block_2": `qprof layers` names the caller of an op that has several.
            found = found or [op for op in self.ops if pattern.split(" in ")[0] in op.outputs]
            found = found or [op for op in self.ops if any(fnmatch.fnmatchcase(name, pattern) for name in op.outputs)]
            if not found:
                names = [name for op in self.ops for name in op.outputs]
                close = difflib.get_close_matches(pattern, names, n=1, cutoff=0.4)
                nearest = f"did you mean {close[0]!r}? " if close else ""
                raise ModelError(f"{self.path}: no layer matches {pattern!r}; {nearest}`qprof layers` lists the names")
            chosen += found
        return chosen


def read(path: Path) -> FloatModel:
    """Read a float model and make sure that it can serve as the source of variants.

    Raises:
        ModelError: the file is no .tflite, LiteRT cannot load it, or it is already quantized.
    """
    content = read_content(path)
    refuse_unloadable(content, str(path), UNLOADABLE)
    model = unpack(path, content)
    _refuse_quantized(path, model)
    if _complete_op_codes(model):
        content = packed(model)
    signature, content = _with_signature(model, content)
    main = model.subgraphs[0]
    return FloatModel(
        path=path,
        content=content,
        signature=_text(signature.signatureKey),
        arguments=_arguments(signature, main),
        ops=tuple(_ops(model)),
        activations=frozenset(_activations(model)),
        io_scopes=tuple(_io_scopes(model)),
    )


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a quantizer did to a model, read from the result.

    `float_ops` counts, by type, the ops that stayed in float: those that write float activations for a static
    method, those that hold float weights for the others. `touched` is False where nothing at all was quantized.
    """

    float_ops: Counter[str]
    touched: bool


def outcome(content: bytes, *, static: bool) -> Outcome:
    """Read from a quantized model which ops stayed in float."""
    from ai_edge_litert import schema_py_generated as schema

    model = unpack(Path("quantized model"), content)
    names = _op_names()
    float_ops: Counter[str] = Counter()
    touched = False
    for subgraph in model.subgraphs:
        for op in subgraph.operators:
            type_name = names[model.operatorCodes[op.opcodeIndex].builtinCode]
            if type_name in ("QUANTIZE", "DEQUANTIZE"):
                touched = True
                continue
            inputs = [subgraph.tensors[i] for i in op.inputs if i >= 0]
            outputs = [subgraph.tensors[i] for i in op.outputs if i >= 0]
            if static:
                left = any(tensor.type == schema.TensorType.FLOAT32 for tensor in outputs)
                touched = touched or any(_scaled(tensor) for tensor in outputs)
            else:
                left = any(_is_float_weight(model, tensor, type_name) for tensor in inputs)
                touched = touched or any(_scaled(tensor) for tensor in inputs)
            float_ops[type_name] += left
    return Outcome(+float_ops, touched)


def _refuse_quantized(path: Path, model: Any) -> None:
    from ai_edge_litert import schema_py_generated as schema

    for subgraph in model.subgraphs:
        for tensor in subgraph.tensors:
            half = tensor.type == schema.TensorType.FLOAT16 and _data(model, tensor) is not None
            if half or (_scaled(tensor) and tensor.type != schema.TensorType.FLOAT32):
                raise ModelError(
                    f"{path}: is already quantized (tensor {_text(tensor.name)!r}); "
                    "give the float32 model it was made from, or run this file as it is with method 'file'"
                )


def _complete_op_codes(model: Any) -> bool:
    """Fill in the op codes of files from before schema 3a, which hold them in the deprecated field alone; the
    quantizer reads the new field, where such a file has 0, the code of ADD. Return whether anything changed."""
    changed = False
    for code in model.operatorCodes:
        if code.builtinCode < code.deprecatedBuiltinCode:
            code.builtinCode = code.deprecatedBuiltinCode
            changed = True
    return changed


def _with_signature(model: Any, content: bytes) -> tuple[Any, bytes]:
    """The signature that covers subgraph 0, and the content that holds it."""
    from ai_edge_litert import schema_py_generated as schema

    main = model.subgraphs[0]
    signatures = list(model.signatureDefs or [])
    for signature in signatures:
        named = {item.tensorIndex for item in signature.inputs or []}
        if signature.subgraphIndex == 0 and set(map(int, main.inputs)) <= named:
            return signature, content
    taken = {_text(signature.signatureKey) for signature in signatures}
    key = next(
        name for name in (_SIGNATURE, *(f"{_SIGNATURE}_{i}" for i in range(len(taken) + 1))) if name not in taken
    )
    added = schema.SignatureDefT()
    added.signatureKey = key.encode()
    added.subgraphIndex = 0
    added.inputs = [_tensor_map(main, index) for index in main.inputs]
    added.outputs = [_tensor_map(main, index) for index in main.outputs]
    model.signatureDefs = [*signatures, added]
    return added, packed(model)


def _tensor_map(subgraph: Any, index: int) -> Any:
    from ai_edge_litert import schema_py_generated as schema

    item = schema.TensorMapT()
    item.name = subgraph.tensors[index].name
    item.tensorIndex = int(index)
    return item


def _arguments(signature: Any, subgraph: Any) -> tuple[str, ...]:
    by_tensor = {int(item.tensorIndex): _text(item.name) for item in signature.inputs or []}
    return tuple(by_tensor[int(index)] for index in subgraph.inputs)


def _ops(model: Any) -> list[FloatOp]:
    from ai_edge_quantizer.utils import tfl_flatbuffer_utils  # type: ignore[import-untyped,unused-ignore]

    names = _op_names()
    ops = []
    for number, subgraph in enumerate(model.subgraphs):
        for op in subgraph.operators:
            weights = [subgraph.tensors[i] for i in list(op.inputs)[1:2] if i >= 0]
            constant = [tensor for tensor in weights if _data(model, tensor) is not None]
            ops.append(
                FloatOp(
                    type=names[model.operatorCodes[op.opcodeIndex].builtinCode],
                    outputs=tuple(_text(subgraph.tensors[i].name) for i in op.outputs if i >= 0),
                    scope=tfl_flatbuffer_utils.get_op_scope(op, subgraph.tensors),
                    subgraph=number,
                    weight_shape=tuple(map(int, constant[0].shape)) if constant else None,
                    activations=frozenset(
                        _text(subgraph.tensors[i].name)
                        for i in [*op.inputs, *op.outputs]
                        if i >= 0 and _is_float_activation(model, subgraph.tensors[i])
                    ),
                )
            )
    return ops


def _io_scopes(model: Any) -> list[str]:
    from ai_edge_quantizer.utils import tfl_flatbuffer_utils

    return [
        tfl_flatbuffer_utils.get_op_scope(op, subgraph.tensors)
        for subgraph in model.subgraphs[1:]
        for op in tfl_flatbuffer_utils.get_subgraph_input_output_operators(subgraph)
    ]


def _activations(model: Any) -> set[str]:
    names = _op_names()
    main = model.subgraphs[0]
    read = {int(i) for op in main.operators for i in op.inputs} | {int(i) for i in main.outputs}
    written = {
        int(i)
        for op in main.operators
        for i in op.outputs
        # A loop hands on all that its body takes, also what nobody reads behind it and no kernel has written.
        if int(i) in read or names[model.operatorCodes[op.opcodeIndex].builtinCode] not in CONTROL_FLOW
    }
    touched = sorted(i for i in read | written if i >= 0)
    return {_text(main.tensors[i].name) for i in touched if _is_float_activation(model, main.tensors[i])}


def _is_float_activation(model: Any, tensor: Any) -> bool:
    from ai_edge_litert import schema_py_generated as schema

    return bool(tensor.type == schema.TensorType.FLOAT32 and _data(model, tensor) is None)


def _is_float_weight(model: Any, tensor: Any, op_type: str) -> bool:
    from ai_edge_litert import schema_py_generated as schema

    if op_type not in WEIGHTED_OPS | _FLOAT_WEIGHT_OPS or tensor.type != schema.TensorType.FLOAT32:
        return False
    # A bias has one dimension and stays in float by design.
    return _data(model, tensor) is not None and tensor.shape is not None and len(tensor.shape) >= 2


def _data(model: Any, tensor: Any) -> Any | None:
    data = model.buffers[tensor.buffer].data
    return data if data is not None and len(data) else None


def _scaled(tensor: Any) -> bool:
    """Whether a tensor has quantization parameters: a scale, or blocks of scales."""
    quantization = tensor.quantization
    if quantization is None:
        return False
    scaled = quantization.scale is not None and len(quantization.scale) > 0
    return scaled or quantization.details is not None


def _op_names() -> dict[int, str]:
    from ai_edge_litert import schema_py_generated as schema

    return {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}


def _text(name: bytes | str | None) -> str:
    if name is None:
        return ""
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else name
