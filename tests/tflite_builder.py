"""Tiny .tflite files made by hand, for tests that need a model whose every figure is known.

A `Graph` collects tensors and ops; `build_model` packs graphs into the bytes of a .tflite file:

    graph = Graph("main")
    image = graph.input("image", (1, 8, 8, 3))
    kernel = graph.constant("kernel", np.ones((4, 3, 3, 3), np.float32))
    output = graph.conv_2d("features", image, kernel)
    graph.outputs = [output]
    path.write_bytes(build_model([graph]))

The ready-made nets below (`tiny_conv_net`, `multi_io_net`, `while_net`, `dynamic_batch_net`, ...) load and run in
LiteRT 2.3.0. Weights come from a fixed seed, so a net is the same bytes each time. Nothing here checks that a model
makes sense: tests build broken ones too.

Shapes follow TFLite: activations NHWC; CONV_2D kernel [out, height, width, in]; DEPTHWISE_CONV_2D kernel
[1, height, width, in * multiplier]; FULLY_CONNECTED weights [out, in].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

OMITTED = -1  # tensor index of an optional input that is left out

_TENSOR_TYPES = {name.lower(): value for name, value in vars(schema.TensorType).items() if isinstance(value, int)}


@dataclass
class Quantization:
    """Affine quantization: real = scale * (stored - zero_point).

    One scale is per-tensor, several are per-channel along `axis`. `block_size` with `scales_tensor` (the index of a
    float16 tensor) makes it blockwise.
    """

    scale: Sequence[float] = ()
    zero_point: Sequence[int] = ()
    axis: int = 0
    block_size: int = 0
    scales_tensor: int = OMITTED

    def pack(self) -> schema.QuantizationParametersT:
        parameters = schema.QuantizationParametersT()
        if self.scale:
            parameters.scale = np.asarray(self.scale, np.float32)
            zero_point = self.zero_point or [0] * len(self.scale)
            parameters.zeroPoint = np.asarray(zero_point, np.int64)
        parameters.quantizedDimension = self.axis
        if self.block_size:
            parameters.detailsType = schema.QuantizationDetails.BlockwiseQuantization
            parameters.details = schema.BlockwiseQuantizationT(
                scales=self.scales_tensor, zeroPoints=OMITTED, blockSize=self.block_size
            )
        return parameters


@dataclass
class _Tensor:
    name: str
    shape: tuple[int, ...]
    dtype: str
    data: bytes | None
    quantization: Quantization | None
    signature: tuple[int, ...] | None
    sparse: bool
    variable: bool


@dataclass
class _Op:
    type: str
    inputs: list[int]
    outputs: list[int]
    options: Any
    version: int


@dataclass
class Graph:
    """One subgraph. Every method that adds something returns the tensor index of what it made."""

    name: str = "main"
    inputs: list[int] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)
    tensors: list[_Tensor] = field(default_factory=list)
    ops: list[_Op] = field(default_factory=list)

    def tensor(
        self,
        name: str,
        shape: Sequence[int],
        dtype: str = "float32",
        *,
        data: bytes | None = None,
        quantization: Quantization | None = None,
        signature: Sequence[int] | None = None,
        sparse: bool = False,
        variable: bool = False,
    ) -> int:
        """Add a tensor; `dtype` is a schema name in lower case ("float16", "int4", ...), `data` makes it constant."""
        open_shape = None if signature is None else tuple(signature)
        self.tensors.append(_Tensor(name, tuple(shape), dtype, data, quantization, open_shape, sparse, variable))
        return len(self.tensors) - 1

    def input(self, name: str, shape: Sequence[int], dtype: str = "float32", **more: Any) -> int:
        """Add a graph input."""
        index = self.tensor(name, shape, dtype, **more)
        self.inputs.append(index)
        return index

    def constant(self, name: str, values: NDArray[Any], dtype: str | None = None, **more: Any) -> int:
        """Add a constant; `dtype="int4"` packs int8 values two to a byte, the first in the low half."""
        values = np.ascontiguousarray(values)
        data = _pack_int4(values) if dtype == "int4" else values.tobytes()
        return self.tensor(name, values.shape, dtype or values.dtype.name, data=data, **more)

    def op(
        self, type: str, inputs: Sequence[int], outputs: Sequence[int], options: Any = None, version: int = 1
    ) -> None:
        """Add an op: `type` is a builtin's name or "CUSTOM:Name", `options` the schema's `...OptionsT` object."""
        self.ops.append(_Op(type, list(inputs), list(outputs), options, version))

    def conv_2d(
        self,
        name: str,
        source: int,
        kernel: int,
        bias: int | None = None,
        *,
        stride: int = 1,
        activation: int = schema.ActivationFunctionType.NONE,
        quantization: Quantization | None = None,
        version: int = 1,
    ) -> int:
        """CONV_2D with SAME padding; without `bias` one of zeros is made, since LiteRT wants one."""
        batch, height, width, _ = self.tensors[source].shape
        channels = self.tensors[kernel].shape[0]
        output = self._like(name, source, (batch, -(-height // stride), -(-width // stride), channels), quantization)
        options = schema.Conv2DOptionsT(
            padding=schema.Padding.SAME, strideW=stride, strideH=stride, fusedActivationFunction=activation
        )
        self.op(
            "CONV_2D",
            [source, kernel, self._bias(name, source, channels) if bias is None else bias],
            [output],
            options,
            version,
        )
        return output

    def depthwise_conv_2d(
        self,
        name: str,
        source: int,
        kernel: int,
        bias: int | None = None,
        *,
        stride: int = 1,
        quantization: Quantization | None = None,
        version: int = 1,
    ) -> int:
        """DEPTHWISE_CONV_2D with SAME padding; without `bias` one of zeros is made."""
        batch, height, width, depth = self.tensors[source].shape
        channels = self.tensors[kernel].shape[3]
        output = self._like(name, source, (batch, -(-height // stride), -(-width // stride), channels), quantization)
        options = schema.DepthwiseConv2DOptionsT(
            padding=schema.Padding.SAME, strideW=stride, strideH=stride, depthMultiplier=channels // depth
        )
        self.op(
            "DEPTHWISE_CONV_2D",
            [source, kernel, self._bias(name, source, channels) if bias is None else bias],
            [output],
            options,
            version,
        )
        return output

    def fully_connected(
        self,
        name: str,
        source: int,
        weights: int,
        bias: int = OMITTED,
        *,
        quantization: Quantization | None = None,
        version: int = 1,
    ) -> int:
        """FULLY_CONNECTED over the last dimension of a two-dimensional source."""
        batch = self.tensors[source].shape[0]
        output = self._like(name, source, (batch, self.tensors[weights].shape[0]), quantization)
        self.op("FULLY_CONNECTED", [source, weights, bias], [output], schema.FullyConnectedOptionsT(), version)
        return output

    def add(self, name: str, left: int, right: int, quantization: Quantization | None = None, version: int = 1) -> int:
        """Element-wise ADD with the shape of `left`."""
        output = self._like(name, left, self.tensors[left].shape, quantization)
        self.op("ADD", [left, right], [output], schema.AddOptionsT(), version)
        return output

    def multiply(self, name: str, left: int, right: int) -> int:
        """Element-wise MUL with the shape of `left`."""
        output = self._like(name, left, self.tensors[left].shape)
        self.op("MUL", [left, right], [output], schema.MulOptionsT())
        return output

    def mean_pool(self, name: str, source: int, version: int = 1) -> int:
        """MEAN over height and width: [batch, height, width, channels] -> [batch, channels]."""
        shape = self.tensors[source].shape
        axes = self.constant(f"{name}/axes", np.array([1, 2], np.int32))
        output = self._like(name, source, (shape[0], shape[3]), self.tensors[source].quantization)
        self.op("MEAN", [source, axes], [output], schema.ReducerOptionsT(keepDims=False), version)
        return output

    def softmax(self, name: str, source: int, quantization: Quantization | None = None, version: int = 1) -> int:
        """SOFTMAX over the last dimension."""
        output = self._like(name, source, self.tensors[source].shape, quantization)
        self.op("SOFTMAX", [source], [output], schema.SoftmaxOptionsT(beta=1.0), version)
        return output

    def custom(self, name: str, source: int, code: str, shape: Sequence[int] | None = None) -> int:
        """A custom op, which LiteRT can load but not run unless it knows the code."""
        output = self._like(name, source, self.tensors[source].shape if shape is None else tuple(shape))
        self.op(f"CUSTOM:{code}", [source], [output])
        return output

    def _bias(self, name: str, source: int, channels: int) -> int:
        floats = self.tensors[source].dtype.startswith("float")
        return self.constant(f"{name}/bias", np.zeros(channels, np.float32 if floats else np.int32))

    def _like(self, name: str, source: int, shape: tuple[int, ...], quantization: Quantization | None = None) -> int:
        """A new activation of the source's dtype, whose batch is left open where the source's is."""
        origin = self.tensors[source]
        signature = (-1, *shape[1:]) if origin.signature and origin.signature[0] == -1 else None
        return self.tensor(name, shape, origin.dtype, quantization=quantization, signature=signature)


@dataclass(frozen=True)
class Signature:
    """A signature of a subgraph: argument name -> tensor index."""

    key: str
    inputs: Mapping[str, int]
    outputs: Mapping[str, int]
    subgraph: int = 0


class _AlignedBuffer(schema.BufferT):  # type: ignore[misc]
    """A buffer whose data starts at a multiple of 16, as the schema's `force_align` asks and kernels may rely on."""

    def Pack(self, builder: flatbuffers.Builder) -> int:
        data = None
        if self.data is not None:
            content = bytes(self.data)
            builder.StartVector(1, len(content), 16)
            builder.head -= len(content)
            builder.Bytes[builder.head : builder.head + len(content)] = content
            data = builder.EndVector()
        schema.BufferStart(builder)
        if data is not None:
            schema.BufferAddData(builder, data)
        schema.BufferAddOffset(builder, self.offset)
        schema.BufferAddSize(builder, self.size)
        return int(schema.BufferEnd(builder))


def build_model(
    graphs: Sequence[Graph],
    *,
    description: str = "made for a test",
    signatures: Sequence[Signature] = (),
    metadata: Mapping[str, bytes] | None = None,
    external_buffers: bool = False,
) -> bytes:
    """Pack graphs into the bytes of a .tflite file; the first graph is the one that runs.

    `external_buffers` stores constants behind the flatbuffer, addressed by file offset, as files beyond 2 GB do.
    """
    model = schema.ModelT()
    model.version = 3
    model.description = description
    model.operatorCodes = []
    model.subgraphs = []
    model.buffers = [_AlignedBuffer()]  # buffer 0 is by convention empty
    codes: dict[tuple[str, int], int] = {}
    for graph in graphs:
        model.subgraphs.append(_pack_graph(graph, model, codes))
    model.signatureDefs = [_pack_signature(signature) for signature in signatures]
    model.metadata = []
    for name, content in (metadata or {}).items():
        model.buffers.append(_AlignedBuffer(data=content))
        model.metadata.append(schema.MetadataT(name=name, buffer=len(model.buffers) - 1))
    return _serialize_external(model) if external_buffers else _serialize(model)


def _serialize(model: schema.ModelT) -> bytes:
    builder = flatbuffers.Builder(4096)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def _serialize_external(model: schema.ModelT) -> bytes:
    contents = [bytes(buffer.data or b"") for buffer in model.buffers]
    for buffer in model.buffers:
        # Written before the length of the flatbuffer is known; any value above 1 keeps the field's place and size.
        buffer.offset, buffer.size = (2, 2) if buffer.data else (0, 0)
        buffer.data = None
    position = -(-len(_serialize(model)) // 16) * 16
    tail = b""
    for buffer, content in zip(model.buffers, contents, strict=True):
        if content:
            buffer.offset, buffer.size = position + len(tail), len(content)
            tail += content + bytes(-len(content) % 16)
    head = _serialize(model)
    return head + bytes(position - len(head)) + tail


def _pack_graph(graph: Graph, model: schema.ModelT, codes: dict[tuple[str, int], int]) -> schema.SubGraphT:
    packed = schema.SubGraphT()
    packed.name = graph.name
    packed.inputs = np.asarray(graph.inputs, np.int32)
    packed.outputs = np.asarray(graph.outputs, np.int32)
    packed.tensors = [_pack_tensor(tensor, model) for tensor in graph.tensors]
    packed.operators = []
    for op in graph.ops:
        key = (op.type, op.version)
        if key not in codes:
            codes[key] = len(model.operatorCodes)
            model.operatorCodes.append(_pack_code(*key))
        packed.operators.append(_pack_op(op, codes[key]))
    return packed


def _pack_tensor(tensor: _Tensor, model: schema.ModelT) -> schema.TensorT:
    packed = schema.TensorT()
    packed.name = tensor.name
    packed.shape = np.asarray(tensor.shape, np.int32)
    packed.hasRank = True
    packed.type = _TENSOR_TYPES[tensor.dtype]
    packed.isVariable = tensor.variable
    if tensor.signature is not None:
        packed.shapeSignature = np.asarray(tensor.signature, np.int32)
    if tensor.quantization is not None:
        packed.quantization = tensor.quantization.pack()
    if tensor.sparse:
        packed.sparsity = schema.SparsityParametersT()
    if tensor.data is not None:
        model.buffers.append(_AlignedBuffer(data=tensor.data))
        packed.buffer = len(model.buffers) - 1
    return packed


def _pack_code(type: str, version: int) -> schema.OperatorCodeT:
    custom = type.startswith("CUSTOM:")
    code = getattr(schema.BuiltinOperator, "CUSTOM" if custom else type)
    packed = schema.OperatorCodeT()
    packed.builtinCode = code
    packed.deprecatedBuiltinCode = min(code, schema.BuiltinOperator.PLACEHOLDER_FOR_GREATER_OP_CODES)
    packed.version = version
    packed.customCode = type.removeprefix("CUSTOM:") if custom else None
    return packed


def _pack_op(op: _Op, code: int) -> schema.OperatorT:
    packed = schema.OperatorT()
    packed.opcodeIndex = code
    packed.inputs = np.asarray(op.inputs, np.int32)
    packed.outputs = np.asarray(op.outputs, np.int32)
    if op.options is not None:
        name = type(op.options).__name__.removesuffix("T")
        if hasattr(schema.BuiltinOptions, name):
            packed.builtinOptionsType = getattr(schema.BuiltinOptions, name)
            packed.builtinOptions = op.options
        else:
            packed.builtinOptions2Type = getattr(schema.BuiltinOptions2, name)
            packed.builtinOptions2 = op.options
    return packed


def _pack_signature(signature: Signature) -> schema.SignatureDefT:
    packed = schema.SignatureDefT()
    packed.signatureKey = signature.key
    packed.subgraphIndex = signature.subgraph
    packed.inputs = [schema.TensorMapT(name=name, tensorIndex=index) for name, index in signature.inputs.items()]
    packed.outputs = [schema.TensorMapT(name=name, tensorIndex=index) for name, index in signature.outputs.items()]
    return packed


def _pack_int4(values: NDArray[Any]) -> bytes:
    flat = np.asarray(values, np.int8).reshape(-1) & 0xF
    if flat.size % 2:
        flat = np.append(flat, np.int8(0))
    return bytes((flat[0::2] | (flat[1::2] << 4)).astype(np.uint8))


# -- nets that run ----------------------------------------------------------------------------------------------


def tiny_conv_net(batch: int = 1, size: int = 16, channels: int = 4, *, open_batch: bool = False) -> bytes:
    """A float32 classifier of 10 classes that runs in LiteRT, wholly inside XNNPACK.

    image [batch, size, size, 3] -> CONV_2D 3x3, stride 2, RELU6 ("stem", [batch, size/2, size/2, channels])
    -> DEPTHWISE_CONV_2D 3x3 ("depthwise") -> ADD with the stem ("residual") -> MEAN ("pooled", [batch, channels])
    -> FULLY_CONNECTED ("logits", [batch, 10]) -> SOFTMAX ("probabilities").

    MACs: stem batch * ceil(size/2)^2 * channels * 27; depthwise batch * ceil(size/2)^2 * channels * 9;
    logits batch * channels * 10. `open_batch` declares the batch as -1 in every shape signature.
    """
    random = np.random.default_rng(0)
    graph = Graph()
    image = graph.input("image", (batch, size, size, 3), signature=(-1, size, size, 3) if open_batch else None)
    stem = graph.conv_2d(
        "stem",
        image,
        _random(graph, random, "stem/kernel", (channels, 3, 3, 3)),
        _random(graph, random, "stem/bias", (channels,)),
        stride=2,
        activation=schema.ActivationFunctionType.RELU6,
    )
    depthwise = graph.depthwise_conv_2d(
        "depthwise",
        stem,
        _random(graph, random, "depthwise/kernel", (1, 3, 3, channels)),
        _random(graph, random, "depthwise/bias", (channels,)),
    )
    pooled = graph.mean_pool("pooled", graph.add("residual", stem, depthwise))
    logits = graph.fully_connected(
        "logits",
        pooled,
        _random(graph, random, "logits/weights", (10, channels)),
        _random(graph, random, "logits/bias", (10,)),
    )
    probabilities = graph.softmax("probabilities", logits)
    graph.outputs = [probabilities]
    signature = Signature("serving_default", {"image": image}, {"probabilities": probabilities})
    return build_model([graph], description="tiny conv net", signatures=[signature])


def dynamic_batch_net(size: int = 16, channels: int = 4) -> bytes:
    """`tiny_conv_net` whose batch is open: shape 1, shape signature -1; resize its input before allocating."""
    return tiny_conv_net(size=size, channels=channels, open_batch=True)


def tiny_int8_net(size: int = 16, channels: int = 4) -> bytes:
    """A fully int8 net that runs: image int8 -> CONV_2D, stride 2, per-channel weights ("stem") -> MEAN ("pooled")
    -> FULLY_CONNECTED, per-tensor weights ("logits", [1, 10]) -> SOFTMAX ("probabilities", scale 1/256)."""
    random = np.random.default_rng(0)
    graph = Graph()
    image = graph.input("image", (1, size, size, 3), "int8", quantization=Quantization([1 / 128], [0]))
    kernel_scales = [0.01 * (channel + 1) for channel in range(channels)]
    kernel = graph.constant(
        "stem/kernel",
        random.integers(-127, 128, (channels, 3, 3, 3)).astype(np.int8),
        quantization=Quantization(kernel_scales),
    )
    bias = graph.constant(
        "stem/bias", np.zeros(channels, np.int32), quantization=Quantization([s / 128 for s in kernel_scales])
    )
    stem = graph.conv_2d("stem", image, kernel, bias, stride=2, quantization=Quantization([0.1], [-10]), version=3)
    pooled = graph.mean_pool("pooled", stem, version=2)
    weights = graph.constant(
        "logits/weights",
        random.integers(-127, 128, (10, channels)).astype(np.int8),
        quantization=Quantization([0.01]),
    )
    logits_bias = graph.constant("logits/bias", np.zeros(10, np.int32), quantization=Quantization([0.1 * 0.01]))
    logits = graph.fully_connected(
        "logits", pooled, weights, logits_bias, quantization=Quantization([0.2], [0]), version=4
    )
    graph.outputs = [graph.softmax("probabilities", logits, Quantization([1 / 256], [-128]), version=2)]
    return build_model([graph], description="tiny int8 net")


def multi_io_net(width: int = 8) -> bytes:
    """Two inputs, two outputs, float32, runs: left, right [1, width] -> "logits" [1, 3] = FULLY_CONNECTED(left + right)
    with weights of ones and no bias (each logit is the sum), and "product" [1, width] = left * right."""
    graph = Graph()
    left = graph.input("left", (1, width))
    right = graph.input("right", (1, width))
    total = graph.add("total", left, right)
    weights = graph.constant("weights", np.ones((3, width), np.float32))
    logits = graph.fully_connected("logits", total, weights)
    product = graph.multiply("product", left, right)
    graph.outputs = [logits, product]
    signature = Signature("serving_default", {"left": left, "right": right}, {"logits": logits, "product": product})
    return build_model([graph], description="multi io net", signatures=[signature])


def while_net(count: int = 5, width: int = 4) -> bytes:
    """A loop that runs: "result" [1, width] = value + count * 1.5, by `count` passes of an ADD in the loop's body.

    Subgraph 0 "main" holds the WHILE, 1 "cond" the LESS, 2 "body" two ADDs. Inputs of main: "counter" int32 [1]
    (start it at 0) and "value" float32 [1, width]; outputs: "counter_end" and "result".
    """
    main = Graph("main")
    state = [main.input("counter", (1,), "int32"), main.input("value", (1, width))]
    main.outputs = [main.tensor("counter_end", (1,), "int32"), main.tensor("result", (1, width))]
    main.op("WHILE", state, main.outputs, schema.WhileOptionsT(condSubgraphIndex=1, bodySubgraphIndex=2))

    condition = Graph("cond")
    counter = condition.input("cond/counter", (1,), "int32")
    condition.input("cond/value", (1, width))
    limit = condition.constant("cond/limit", np.array([count], np.int32))
    condition.outputs = [condition.tensor("cond/more", (1,), "bool")]
    condition.op("LESS", [counter, limit], condition.outputs, schema.LessOptionsT())

    body = Graph("body")
    counter = body.input("body/counter", (1,), "int32")
    value = body.input("body/value", (1, width))
    one = body.constant("body/one", np.array([1], np.int32))
    step = body.constant("body/step", np.full((1, width), 1.5, np.float32))
    body.outputs = [body.add("body/next", counter, one), body.add("body/sum", value, step)]
    return build_model([main, condition, body], description="while net")


def growing_while_net(count: int = 5) -> bytes:
    """A loop whose body's shapes change in every pass, so that LiteRT allocates it anew: value [1, n] becomes
    [value, value + value], [1, 2n], `count` times. Inputs: "counter" int32 [1] (start it at 0), "value" float32 [1, 1];
    outputs: "counter_end" and "result" [1, 2 ** count]."""
    open_width = (1, -1)
    main = Graph("main")
    state = [main.input("counter", (1,), "int32"), main.input("value", (1, 1), signature=open_width)]
    main.outputs = [
        main.tensor("counter_end", (1,), "int32"),
        main.tensor("result", (1, 1), signature=open_width),
    ]
    main.op("WHILE", state, main.outputs, schema.WhileOptionsT(condSubgraphIndex=1, bodySubgraphIndex=2))

    condition = Graph("cond")
    counter = condition.input("cond/counter", (1,), "int32")
    condition.input("cond/value", (1, 1), signature=open_width)
    limit = condition.constant("cond/limit", np.array([count], np.int32))
    condition.outputs = [condition.tensor("cond/more", (1,), "bool")]
    condition.op("LESS", [counter, limit], condition.outputs, schema.LessOptionsT())

    body = Graph("body")
    counter = body.input("body/counter", (1,), "int32")
    value = body.input("body/value", (1, 1), signature=open_width)
    one = body.constant("body/one", np.array([1], np.int32))
    following = body.add("body/next", counter, one)
    double = body.tensor("body/double", (1, 1), signature=open_width)
    body.op("ADD", [value, value], [double], schema.AddOptionsT())
    both = body.tensor("body/both", (1, 2), signature=open_width)
    body.op("CONCATENATION", [value, double], [both], schema.ConcatenationOptionsT(axis=1))
    body.outputs = [following, both]
    return build_model([main, condition, body], description="growing while net")


def if_net(width: int = 4) -> bytes:
    """A branch that runs: "result" [1, width] = value + value where "condition" bool [1] holds, else value * value.

    Subgraph 0 "main" holds the IF, 1 "then" the ADD, 2 "else" the MUL.
    """
    main = Graph("main")
    state = [main.input("condition", (1,), "bool"), main.input("value", (1, width))]
    main.outputs = [main.tensor("result", (1, width))]
    main.op("IF", state, main.outputs, schema.IfOptionsT(thenSubgraphIndex=1, elseSubgraphIndex=2))
    then = Graph("then")
    value = then.input("then/value", (1, width))
    then.outputs = [then.add("then/double", value, value)]
    other = Graph("else")
    value = other.input("else/value", (1, width))
    other.outputs = [other.multiply("else/square", value, value)]
    return build_model([main, then, other], description="if net")


def heavy_conv_net(size: int = 48, channels: int = 48, layers: int = 3) -> bytes:
    """A float32 net of some milliseconds, wholly inside XNNPACK: image [1, size, size, channels] through `layers`
    CONV_2D 3x3 of as many channels ("conv0", "conv1", ...), then MEAN ("pooled")."""
    random = np.random.default_rng(0)
    graph = Graph()
    features = graph.input("image", (1, size, size, channels))
    for layer in range(layers):
        kernel = _random(graph, random, f"conv{layer}/kernel", (channels, 3, 3, channels))
        features = graph.conv_2d(f"conv{layer}", features, kernel)
    graph.outputs = [graph.mean_pool("pooled", features)]
    return build_model([graph], description="heavy conv net")


def chain_net(length: int = 80) -> bytes:
    """A chain of `length` float32 ADDs ("add0", ...) from "value" [1, 4], which XNNPACK takes, and at its end an
    ARG_MAX ("largest"), which it leaves. Without fusion of delegate nodes each ADD is a partition."""
    graph = Graph()
    total = graph.input("value", (1, 4))
    for link in range(length):
        total = graph.add(f"add{link}", total, total)
    axis = graph.constant("axis", np.array(1, np.int32))
    graph.outputs = [graph.tensor("largest", (1,), "int64")]
    graph.op("ARG_MAX", [total, axis], graph.outputs, schema.ArgMaxOptionsT(outputType=schema.TensorType.INT64))
    return build_model([graph], description="chain net")


def gather_net() -> bytes:
    """Runs: "picked" [1] = GATHER of row "row" (int32 [1]) from "values" + "values" ("total"), [4]. A row
    beyond the end fails while it runs."""
    graph = Graph()
    values = graph.input("values", (4,))
    row = graph.input("row", (1,), "int32")
    total = graph.add("total", values, values)
    graph.outputs = [graph.tensor("picked", (1,))]
    graph.op("GATHER", [total, row], graph.outputs, schema.GatherOptionsT())
    return build_model([graph], description="gather net")


def custom_op_net(code: str = "NoSuchOp") -> bytes:
    """A CONV_2D, then a custom op that LiteRT does not know: allocation fails with "unresolved custom op"."""
    random = np.random.default_rng(0)
    graph = Graph()
    image = graph.input("image", (1, 8, 8, 3))
    features = graph.conv_2d("features", image, _random(graph, random, "kernel", (4, 3, 3, 3)))
    graph.outputs = [graph.custom("custom", features, code)]
    return build_model([graph], description="custom op net")


def _random(graph: Graph, random: np.random.Generator, name: str, shape: tuple[int, ...]) -> int:
    return graph.constant(name, (random.standard_normal(shape) / 4).astype(np.float32))
