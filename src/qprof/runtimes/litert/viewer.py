"""What AI Edge Model Explorer calls the graphs and nodes of a .tflite file."""

from __future__ import annotations

import re
from pathlib import Path

from qprof.record.ops import OpMeta
from qprof.runtimes.litert.flatbuffer import read_model

#: Ids of ops (`qprof.runtimes.litert.ops`): "12", "2/5" in another subgraph, "2/5@12" in one that is called from there.
_OP = re.compile(r"(?:(\d+)/)?(\d+)(?:@.*)?\Z", re.DOTALL)


def graph_ids(path: Path) -> list[str]:
    """Ids of the subgraphs: their names, else the key of a signature, else "main" and "subgraph_1" ..."""
    facts = read_model(path)
    keys = {signature.subgraph: signature.key for signature in facts.signatures}
    return [
        graph.name or keys.get(graph.index) or ("main" if graph.index == 0 else f"subgraph_{graph.index}")
        for graph in facts.subgraphs
    ]


def node_of(op: OpMeta) -> tuple[int, str] | None:
    """Subgraph and node, which is called by its place in the subgraph; `None` for a partition of a delegate."""
    found = _OP.match(op.op)
    if op.type == "DELEGATE" or found is None:
        return None
    return int(found[1] or 0), found[2]
