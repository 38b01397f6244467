"""Finished .onnx files, changed: ops cut out, or replaced by those of a baseline. For experiments, kept in the cache.

Ops are known by the names that `qprof layers` shows (`SourceGraph.name`). Whatever a change leaves unread, ONNX Runtime
leaves out by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qprof.errors import ModelError, QprofError
from qprof.runtimes.onnx import model_file
from qprof.runtimes.onnx.kept import KeptModel, kept
from qprof.runtimes.onnx.kept import keep as keep_model
from qprof.runtimes.onnx.names import SourceGraph, constants_alone
from qprof.runtimes.tool_output import first_line
from qprof.store.cache import Cache, json_sha256

if TYPE_CHECKING:
    from onnx import NodeProto

#: Part of every key: raise it where a change of an edit changes the bytes that are made.
_REVISION = "1"


class Opened:
    """A file that is read: its graph, the names of its ops, and the types and shapes of its tensors as far as the file
    and ONNX's shape inference tell them."""

    def __init__(self, path: Path) -> None:
        """Raises `ModelError` for what is no model, has tensors in files of their own, or graphs inside its nodes."""
        import onnx

        self.path, self.model = path, model_file.read(path)
        if model_file.external_files(path, self.model):
            raise ModelError(f"{path}: keeps tensors in files of their own, which are not edited; save it as one file")
        if len(list(model_file.graphs_of(self.model.graph))) > 1:
            raise ModelError(f"{path}: has ops that run other ops; such a model is not taken apart")
        self.source = SourceGraph(self.model)
        self.constant = constants_alone(self.source)
        self.types: dict[str, tuple[int, tuple[int | str, ...]]] = {}
        inferred = onnx.shape_inference.infer_shapes(self.model).graph
        for told in [*inferred.input, *inferred.output, *inferred.value_info]:
            tensor = told.type.tensor_type
            if tensor.HasField("shape"):
                dims = tuple(one.dim_value if one.HasField("dim_value") else one.dim_param for one in tensor.shape.dim)
                self.types[told.name] = (tensor.elem_type, dims)
        self._places: dict[str, list[int]] = {}
        for position in range(len(self.source.nodes)):
            self._places.setdefault(self.source.name(position), []).append(position)

    @property
    def graph(self) -> Any:
        """The graph's message, to be changed in place."""
        return self.model.graph

    def place(self, name: str) -> int:
        """Position of the one node with this name. Raises `ModelError` where there is none, or more."""
        found = self._places.get(name, [])
        if len(found) != 1:
            count = "no op" if not found else f"{len(found)} ops"
            raise ModelError(f"{self.path}: has {count} named {name!r}; `qprof layers` lists the names")
        return found[0]

    def has(self, name: str) -> bool:
        """Whether a node of the file is called so."""
        return name in self._places

    def inputs(self) -> list[str]:
        """Names of what the model is given; constants that older files list among these are none."""
        return [one.name for one in self.graph.input if one.name not in self.source.constants]

    def is_constant(self, tensor: str) -> bool:
        """Whether a tensor is one, or is made of constants alone."""
        maker = self.source.producer.get(tensor)
        return tensor in self.source.constants or (maker is not None and maker in self.constant)

    def alike(self, tensor: str, other: Opened, its: str) -> bool:
        """Whether two tensors are known to have one type and shape."""
        return tensor in self.types and self.types[tensor] == other.types.get(its)


def bypassed(path: Path, names: Collection[str]) -> Path:
    """The model without some ops: what read their output reads the first of their inputs that is no constant and has
    its type and shape. Names of what the optimizer puts in are passed over; it goes with the rest.

    Raises `ModelError` where there is none of these ops in the file, nothing fits in the place of what they give, or
    one makes an output of the model.
    """
    wanted = sorted(set(names))

    def edit(file: Opened) -> None:
        gone = {file.place(name) for name in wanted if file.has(name)}
        if not gone:
            raise ModelError(f"{path}: has no op named {wanted[0]!r}; `qprof layers` lists the names")
        written: set[str] = set()
        instead: dict[str, str] = {}
        for position, node in enumerate(file.source.nodes):
            if position in gone:
                written.update(node.output)
                fits = (t for t in node.input if t and not file.is_constant(t) and file.alike(t, file, node.output[0]))
                source = next((t for t in fits if t not in written or t in instead), None)
                if source is not None:
                    instead[node.output[0]] = instead.get(source, source)
        if made := [one.name for one in file.graph.output if one.name in written]:
            raise ModelError(f"{path}: its output {made[0]!r} is made by one of these ops; leave that op in")
        stay = [node for position, node in enumerate(file.source.nodes) if position not in gone]
        for node in stay:
            for slot, tensor in enumerate(node.input):
                if tensor in written and tensor not in instead:
                    raise ModelError(
                        f"{path}: {node.name or node.op_type!r} reads {tensor!r}, and nothing that is computed without "
                        "these ops has its type and shape"
                    )
                node.input[slot] = instead.get(tensor, tensor)
        keep(file, stay)

    return edited(path, "bypassed", {"ops": wanted}, edit, f"without {len(wanted)} of its ops")


def constants_from(path: Path, baseline: Path, pairs: Sequence[tuple[str, str]]) -> Path:
    """The model with the constants of the baseline's ops, in ops of one type. `pairs`: (op of the model, op of the
    baseline), by name. Raises `ModelError` where they do not correspond, or are stored in other types or shapes."""
    return _taken_over(path, baseline, pairs, "constants")


def ops_from(path: Path, baseline: Path, pairs: Sequence[tuple[str, str]]) -> Path:
    """As `constants_from`, with the attributes of the baseline's ops as well (padding, strides, axes)."""
    return _taken_over(path, baseline, pairs, "ops")


def _taken_over(path: Path, baseline: Path, pairs: Sequence[tuple[str, str]], what: str) -> Path:
    wanted = sorted(set(pairs))

    def edit(file: Opened) -> None:
        other = Opened(baseline)
        for own, its in wanted:
            node, from_node = file.source.nodes[file.place(own)], other.source.nodes[other.place(its)]
            _take_constants(file, node, other, from_node, own)
            if what == "ops":
                del node.attribute[:]
                node.attribute.extend(from_node.attribute)

    told = f"with {what} of {len(wanted)} ops of {baseline.name}"
    return edited(path, f"{what} from", _of(baseline, pairs=wanted), edit, told)


def _take_constants(file: Opened, node: NodeProto, other: Opened, its: NodeProto, name: str) -> None:
    what = f"{file.path}: {name!r}"
    if (node.op_type, node.domain, len(node.input)) != (its.op_type, its.domain, len(its.input)):
        raise ModelError(f"{what} is a {node.op_type} and a {its.op_type} of other inputs in {other.path.name}")
    for slot, (mine, theirs) in enumerate(zip(node.input, its.input, strict=True)):
        if file.is_constant(mine) != other.is_constant(theirs):
            raise ModelError(f"{what}: its input {slot} is computed in one of the two models alone")
        if not other.is_constant(theirs):
            continue
        own, its_own = file.source.constants.get(mine), other.source.constants.get(theirs)
        if own is None or its_own is None:
            raise ModelError(f"{what}: its input {slot} is made of constants by other ops, which are not replaced")
        if (own.data_type, list(own.dims)) != (its_own.data_type, list(its_own.dims)):
            raise ModelError(f"{what}: its input {slot} is of another type or shape in {other.path.name}")
        node.input[slot] = brought_constant(file, other, theirs)


def part_from(
    path: Path, baseline: Path, out: Sequence[str], into: Sequence[str], pairs: Sequence[tuple[str, str]]
) -> Path:
    """The model without the ops `out` and with the baseline's ops `into` in their place, by name; `pairs`: (op of the
    model, op of the baseline), those around the part that correspond. Raises `ModelError` where the part does not fit:
    what it reads or gives is of another type or shape, or is nothing that the other model has."""
    gone, come, around = sorted(set(out)), sorted(set(into)), sorted(set(pairs))

    def edit(file: Opened) -> None:
        other = Opened(baseline)
        # What the optimizer puts in is in no file.
        like = {file.place(own): other.place(its) for own, its in around if file.has(own) and other.has(its)}
        goes = {file.place(name) for name in gone if file.has(name)}
        comes = {other.place(name) for name in come if other.has(name)}
        for own, its in list(like.items()):
            if _gives_unlike(file, own, other, its):  # between two that are wider, say
                goes.add(own)
                comes.add(like.pop(own))
        _Part(file, other, goes, sorted(comes), like).edit()

    settings = _of(baseline, out=gone, into=come, pairs=around)
    return edited(path, "part from", settings, edit, f"with {len(come)} ops of {baseline.name}")


def _gives_unlike(file: Opened, own: int, other: Opened, its: int) -> bool:
    """Whether two nodes are known to give tensors of unlike types or shapes."""
    pairs = zip(file.source.nodes[own].output, other.source.nodes[its].output, strict=False)
    return any(
        mine in file.types and theirs in other.types and file.types[mine] != other.types[theirs]
        for mine, theirs in pairs
    )


class _Part:
    """`goes`: nodes of the file; `comes`: nodes of the other; `like`: node of the file -> its counterpart.
    `named`: tensor of the other -> the tensor of the file that holds the same."""

    def __init__(
        self, file: Opened, other: Opened, goes: Collection[int], comes: Sequence[int], like: Mapping[int, int]
    ) -> None:
        self.file, self.other, self.goes, self.like = file, other, goes, like
        self.comes = [other.source.nodes[position] for position in comes]
        self.own = {tensor for position in goes for tensor in file.source.nodes[position].output}
        self.named = dict(zip(other.inputs(), file.inputs(), strict=False))
        for mine, its in like.items():
            self.named.update(zip(other.source.nodes[its].output, file.source.nodes[mine].output, strict=False))
        self.outside = dict(self.named)
        self.named |= {tensor: f"qprof/{tensor}" for node in self.comes for tensor in node.output if tensor}

    def edit(self) -> None:
        nodes = self.file.source.nodes
        stay = [(position, node) for position, node in enumerate(nodes) if position not in self.goes]
        if not any(node.op_type in ("Conv", "MatMul", "Gemm", "ConvTranspose") for _, node in stay):
            raise ModelError(f"{self.file.path}: these ops are the whole model; without them it would be the other one")
        outputs = [one.name for one in self.other.graph.output]
        for at, output in enumerate(self.file.graph.output):
            if output.name in self.own:
                its = outputs[at] if at < len(outputs) else ""
                if its not in self.named or its in self.outside or not self.file.alike(output.name, self.other, its):
                    raise ModelError(f"{self.file.path}: its output {output.name!r} has no counterpart there")
                self.named[its] = output.name
        for position, node in stay:
            for slot, tensor in enumerate(node.input):
                if tensor in self.own:
                    node.input[slot] = self._instead(position, slot, tensor)
        keep(self.file, [*(node for _, node in stay), *(made for node in self.comes for made in self._brought(node))])

    def _instead(self, position: int, slot: int, tensor: str) -> str:
        its = self.like.get(position)
        read = self.other.source.nodes[its].input if its is not None else ()
        if slot >= len(read) or read[slot] not in self.named:
            raise ModelError(
                f"{self.file.path}: {self.file.source.name(position)!r} reads {tensor!r}, for which "
                f"{self.other.path.name} has nothing there; name that op as well"
            )
        self._refuse_unlike(tensor, read[slot])
        return self.named[read[slot]]

    def _brought(self, node: NodeProto) -> Iterator[NodeProto]:
        """A node of the other, with what makes constants for it."""
        import onnx

        made = onnx.NodeProto()
        made.CopyFrom(node)
        made.name = f"qprof/{node.name}"
        for slot, tensor in enumerate(node.input):
            if not tensor:
                continue
            if tensor in self.other.source.constants:
                made.input[slot] = brought_constant(self.file, self.other, tensor)
            elif tensor in self.named:
                if tensor in self.outside:
                    self._refuse_unlike(self.outside[tensor], tensor)
                made.input[slot] = self.named[tensor]
            elif self.other.is_constant(tensor):
                maker = self.other.source.nodes[self.other.source.producer[tensor]]
                self.named |= {one: f"qprof/{one}" for one in maker.output}
                yield from self._brought(maker)
                made.input[slot] = self.named[tensor]
            else:
                raise ModelError(f"{self.other.path}: {node.name!r} reads {tensor!r}, which has no counterpart")
        for slot, tensor in enumerate(node.output):
            made.output[slot] = self.named.get(tensor, "")
        yield made

    def _refuse_unlike(self, tensor: str, its: str) -> None:
        if not self.file.alike(tensor, self.other, its):
            raise ModelError(
                f"{self.file.path}: {tensor!r} is not known to be of the type and shape of {its!r} of "
                f"{self.other.path.name}: the part does not fit"
            )


def brought_constant(file: Opened, other: Opened, name: str) -> str:
    """A constant of another file, under a name of its own."""
    new = f"qprof/{name}"
    if new not in file.source.constants:
        tensor = file.graph.initializer.add()
        tensor.CopyFrom(other.source.constants[name])
        tensor.name = new
        file.source.constants[new] = tensor
    return new


def keep(file: Opened, nodes: Sequence[NodeProto]) -> None:
    """Leave these nodes alone, each behind those whose outputs it reads. Raises `ModelError` for a circle of them."""
    written = {tensor for node in nodes for tensor in node.output if tensor}
    done: set[str] = set()
    left, ordered = list(nodes), []
    while left:
        ready = next((n for n, node in enumerate(left) if all(t in done or t not in written for t in node.input)), None)
        if ready is None:
            raise ModelError(f"{file.path}: these ops read one another's outputs in a circle: the part does not fit")
        node = left.pop(ready)
        done.update(node.output)
        ordered.append(node)
    copies = [type(node).FromString(node.SerializeToString()) for node in ordered]
    del file.graph.node[:]
    file.graph.node.extend(copies)


def edited(path: Path, method: str, settings: Mapping[str, Any], edit: Callable[[Opened], None], what: str) -> Path:
    """The file with a change, made once and taken from the cache ever after.

    `method` and `settings` name the change, in the cache's key; `edit` makes it; `what` says in messages what is made.

    Raises:
        ModelError: the file cannot be read, the change does not fit it, or no ONNX model comes out.
        StoreError: the cache cannot be written.
    """
    import onnx

    source = model_file.digest(path, model_file.read(path))
    key = json_sha256({"source": source, "method": method, "settings": dict(settings), "revision": _REVISION})
    if (stored := _CACHE.lookup(key)) is not None:
        return stored.path
    file = Opened(path)
    try:
        edit(file)
        # What was inferred of the tensors that are gone, or are others now, would be taken for true.
        del file.graph.value_info[:]
        onnx.checker.check_model(file.model, full_check=True)
    except QprofError:
        raise
    except Exception as error:  # a file that is damaged where nothing checks it can raise nearly anything
        raise ModelError(f"{path}: cannot be made {what} ({first_line(error)}); check the file") from error
    return _CACHE.store(key, lambda folder: keep_model(folder, file.model.SerializeToString())).path


def _of(baseline: Path, **settings: Any) -> dict[str, Any]:
    return {"baseline": model_file.digest(baseline, model_file.read(baseline)), **settings}


_CACHE: Cache[KeptModel] = Cache("onnx-edits", kept)
