"""What a SavedModel or Keras file would do while it is loaded and converted, told before either happens.

Loading a SavedModel runs its init op and the initializers of its resources, and converting it evaluates what is
constant in its functions. Ops of TensorFlow read and write files, run Python and open connections; a graph that has one
of them, wherever it stands, is refused. The ops that save and restore variables, which every SavedModel has, may stand
in the functions of its saver alone. Keras layers that hold code of their own, or load other files, are refused, and so
is whatever is not to be found in Keras.

TensorFlow's own advice: "treat models as programs" (https://github.com/tensorflow/tensorflow/security/policy).
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from qprof.errors import ModelError
from qprof.runtimes.tool_output import first_line

#: Ops that reach beyond tensors: files, Python, the network, graphs inside of texts.
_REACHING = re.compile(
    r"(Eager)?PyFunc(Stateless)?|ReadFile|WriteFile|MatchingFiles|ImmutableConst|FileSystem\w*|.*Reader(V2)?|Reader\w+"
    r"|.*Dataset(V\d+)?|Dataset\w+|.*Summary(File|Db|Writer)\w*|Write\w*Summary|.*SummaryWriter|FlushSummaryWriter"
    r"|Print(V2)?|Debug\w+|Rpc\w*|Remote\w+|.*FromTextFile(V2)?|(De|En)codeProto(V2)?|LoadAndRemapMatrix"
    r"|GenerateVocabRemapping|.*Server|DistributedSave|LMDB\w*|Bigtable\w*|BigQuery\w*|Gcs\w+|_?Send|_?Recv"
    r"|_?Host(Send|Recv)|TRTEngineOp|(Tpu|TPU)\w+|XlaLaunch\w*|CopyHost|.*LoadLibrary\w*"
)
#: Those that write or read variables, which belong to the saver.
_SAVES = frozenset({"Save", "SaveSlices", "SaveV2", "MergeV2Checkpoints"})
_RESTORES = frozenset({"Restore", "RestoreSlice", "RestoreV2"})

#: Keras layers that hold Python code of the model's author, or load a file that the configuration names.
_UNSAFE_LAYERS = frozenset({"Lambda", "__lambda__", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer"})
#: Where the classes and functions of a Keras file may come from.
_KERAS_MODULES = re.compile(r"(keras|tf_keras|tensorflow\.keras)(\.\w+)*|builtins")
#: Of builtins, what Keras writes.
_BUILTINS = frozenset({"NoneType", "slice", "function", "tuple", "dict", "list", "Ellipsis"})

_INSTEAD = "convert the model yourself and give the .tflite"


def refuse_reaching_ops(folder: Path, source: Path) -> None:
    """Refuse a SavedModel that would do more than compute. `source`: what to call it. Raises `ModelError`."""
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2  # type: ignore[import-untyped,unused-ignore]

    if (folder / "saved_model.cpb").exists():  # TensorFlow would take this and pass over saved_model.pb
        raise ModelError(f"{source}: holds a saved_model.cpb, a graph in parts, which qprof does not read; {_INSTEAD}")
    try:
        model = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    except (DecodeError, OSError, RecursionError) as error:
        raise ModelError(f"{source}: cannot be loaded as a SavedModel: {first_line(error)}; export it again") from error
    for graph in model.meta_graphs:
        reached = _Reached(graph)
        every = [node.op for node in reached.every_node()]
        found = next((op for op in every if _REACHING.fullmatch(op)), None)
        found = found or next((op for op in reached.beside_saving() if op in _SAVES), None)
        found = found or next((op for op in reached.serving() if op in _RESTORES), None)
        if found is not None:
            raise ModelError(
                f"{source}: its graph holds the op {found[:60]!r}, which reaches for files, code or the network when "
                f"the model is loaded or converted; qprof runs no such model: {_INSTEAD}"
            )


class _Reached:
    """The nodes of a MetaGraph by what leads to them."""

    def __init__(self, graph: Any) -> None:
        self._graph = graph
        self._nodes = {node.name: node for node in graph.graph_def.node}
        self._functions = {one.signature.name: one for one in graph.graph_def.library.function}

    def every_node(self) -> Iterator[Any]:
        yield from self._graph.graph_def.node
        for function in self._functions.values():
            yield from function.node_def

    def serving(self) -> set[str]:
        """Types of the ops that loading, the signatures and the objects' functions lead to."""
        graph = self._graph
        fetched = [tensor.name for one in graph.signature_def.values() for tensor in one.outputs.values()]
        for collection in graph.collection_def.values():
            fetched += collection.node_list.value
        return self._ops(fetched, graph.object_graph_def.concrete_functions)

    def beside_saving(self) -> set[str]:
        """The same, and those that restoring variables leads to."""
        return self.serving() | self._ops([self._graph.saver_def.restore_op_name], ())

    def _ops(self, fetched: Iterable[str], functions: Iterable[str]) -> set[str]:
        found: set[str] = set()
        pending, seen = [("node", _node_name(name)) for name in fetched], set()
        pending += [("function", name) for name in functions]
        while pending:
            one = pending.pop()
            if one in seen:
                continue
            seen.add(one)
            kind, name = one
            if kind == "node" and name in self._nodes:
                nodes = [self._nodes[name]]
                pending += [("node", _node_name(given)) for given in nodes[0].input]
            else:
                nodes = list(self._functions[name].node_def) if name in self._functions else []
            for node in nodes:
                found.add(node.op)
                pending += [("function", called) for called in _called(node)]
        return found


def _node_name(tensor: str) -> str:
    return tensor.removeprefix("^").partition(":")[0]


def _called(node: Any) -> Iterator[str]:
    """The functions that a node may call: named by its type, or by an attribute."""
    yield node.op
    for value in node.attr.values():
        if value.HasField("func"):
            yield value.func.name
        yield from (one.name for one in value.list.func)


def refuse_keras_code(source: Path) -> None:
    """Refuse a Keras file that brings code or names foreign classes, before Keras sees it. Raises `ModelError`."""
    try:
        parts = list(_objects(json.loads(_keras_config(source))))
    except (OSError, ValueError, KeyError, TypeError, RecursionError, RuntimeError, zipfile.BadZipFile) as error:
        raise ModelError(f"{source}: is not a Keras model file ({first_line(error)}); save the model again") from error
    for module, name in parts:
        short = name.rpartition(">")[2]
        if short in _UNSAFE_LAYERS:
            raise ModelError(
                f"{source}: holds a {short.strip('_').capitalize() if short == '__lambda__' else short} layer, that "
                "is, code or another file that the layer names, which qprof does not run; "
                "convert the model yourself and give the .tflite or the SavedModel"
            )
        own = not module or _KERAS_MODULES.fullmatch(module)
        if not own or (module == "builtins" and name not in _BUILTINS):
            raise ModelError(
                f"{source}: names {module[:60]}.{name[:60]}, which is none of Keras's own and not imported; {_INSTEAD}"
            )


def _keras_config(source: Path) -> str | bytes:
    if source.suffix == ".keras":
        with zipfile.ZipFile(source) as archive:
            return archive.read("config.json")
    import h5py  # type: ignore[import-untyped,unused-ignore]

    with h5py.File(source, "r") as archive:
        config: str | bytes = archive.attrs["model_config"]
        return config


def _objects(config: Any) -> Iterator[tuple[str, str]]:
    """(module, name) of every class and function that a configuration names."""
    pending = [config]
    while pending:
        found = pending.pop()
        if isinstance(found, Mapping):
            if isinstance(found.get("class_name"), str):
                yield str(found.get("module") or ""), found["class_name"]
            pending += found.values()
        elif isinstance(found, list):
            pending += found
