"""Overlays for AI Edge Model Explorer: latency, error, energy and placement of every op, drawn on the model's graph.

One file for each variant and figure. All variants have one scale (thresholds, not a gradient, which would span each
file's own range), so that two graphs side by side compare. `sync_navigation.json` ties the ops of A to those of B.
Nodes go by their place in the graph: tensor names differ between viewers and variants.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from qprof.errors import StoreError
from qprof.findings.measured import measured_variant
from qprof.findings.mixed_precision import LayerCost, layer_rows
from qprof.record.ops import OpMeta
from qprof.report.export import write_json
from qprof.report.exports.base import Format, Wanted, chosen
from qprof.runtimes import registry
from qprof.runtimes.base import Runtime
from qprof.runtimes.match_ops import match_ops
from qprof.store.run import Run

#: Seven steps from little to much that differ in lightness (ColorBrewer "YlGnBu"), so that no hue has to be told.
_STEPS = ("#ffffcc", "#c7e9b4", "#7fcdbb", "#41b6c4", "#1d91c0", "#225ea8", "#0c2c84")
_DARK = 4  # steps from here on want light text
#: Colours of places, apart for the colour-blind (Okabe and Ito).
_PLACES = ("#56b4e9", "#e69f00", "#009e73", "#f0e442", "#cc79a7")
_INTERPRETER = "interpreter"

Values = Mapping[str, float]


def thresholds(values: Sequence[float], low_is_bad: bool = False) -> list[dict[str, Any]]:
    """Steps of one scale, the upper end of each: sevenths of all values in their order, so that every step is used."""
    ends = np.unique(
        np.quantile(np.asarray(values, np.float64), np.linspace(0, 1, len(_STEPS) + 1)[1:], method="higher")
    )
    places = np.linspace(0, len(_STEPS) - 1, len(ends)).round().astype(int) if len(ends) > 1 else [len(_STEPS) // 2]
    steps = [len(_STEPS) - 1 - place if low_is_bad else place for place in places]
    return [
        {"value": float(end), "bgColor": _STEPS[step], "textColor": "#ffffff" if step >= _DARK else "#000000"}
        for end, step in zip(ends, steps, strict=True)
    ]


def navigation(a: Sequence[str], b: Sequence[str], pairs: Sequence[tuple[int, int]]) -> dict[str, Any]:
    """Nodes of the left graph -> nodes of the right one; every node in one entry alone."""
    entries: dict[tuple[str, str], None] = {}
    left, right = set(), set()
    for i, j in pairs:
        if a[i] not in left and b[j] not in right:
            entries[a[i], b[j]] = None
            left.add(a[i])
            right.add(b[j])
    return {
        "type": "sync_navigation",
        "mappingEntries": [{"leftNodeIds": [one], "rightNodeIds": [other]} for one, other in entries],
        "disableMappingFallback": True,
        "showDiffHighlights": True,
    }


class _Graph:
    """The ops of a variant as nodes of a viewer."""

    def __init__(self, run: Run, name: str) -> None:
        entry = run.variant(name)
        self.runtime: Runtime = registry.get(str(entry.runtime))
        path = Path(entry.path or "")
        ids = self.runtime.viewer_graphs(path) if entry.path and path.exists() else None
        if ids is None and entry.path and path.exists():
            raise StoreError(
                f"{run.folder}: Model Explorer has no nodes for the models of {entry.runtime} ({name}); "
                "--format perfetto and speedscope show their layers"
            )
        self.ids = ids
        self.name = name

    def node(self, op: OpMeta) -> tuple[int, str] | None:
        return self.runtime.viewer_node(op)

    def document(self, values: Mapping[tuple[int, str], dict[str, Any]], about: dict[str, Any]) -> dict[str, Any]:
        """By graph; where the file is gone and its graphs' names with it, of the first graph."""
        if self.ids is None:
            return {"results": {node: value for (graph, node), value in values.items() if graph == 0}, **about}
        found: dict[str, Any] = {}
        for (graph, node), value in values.items():
            found.setdefault(self.ids[graph], {"results": {}, **about})["results"][node] = value
        return found


def _figures(run: Run, name: str, phase: str | None) -> dict[str, dict[str, float]]:
    """Figure -> op -> value; ops of which it is not known are left out."""
    costs: list[LayerCost] = layer_rows(run, name)
    found: dict[str, dict[str, float]] = {
        "latency (us, p50)": {cost.op: cost.p50_us.value for cost in costs if cost.p50_us is not None},
        "error (SQNR dB, own)": {cost.op: cost.own_sqnr_db for cost in costs if cost.own_sqnr_db is not None},
        "energy (uJ, modelled)": {cost.op: cost.energy_j * 1e6 for cost in costs if cost.energy_j is not None},
    }
    return {figure: values for figure, values in found.items() if values}


_FILES = {"latency (us, p50)": "latency", "error (SQNR dB, own)": "error", "energy (uJ, modelled)": "energy"}


def _write(run: Run, folder: Path, wanted: Wanted) -> list[Path]:
    names = chosen(run, wanted)
    graphs = {name: _Graph(run, name) for name in names}
    figures = {name: _figures(run, name, wanted.phase) for name in names}
    nodes = {
        name: {op.op: node for op in run.ops_of(name, wanted.phase) if (node := graphs[name].node(op))}
        for name in names
    }
    if not any(nodes.values()):
        raise StoreError(f"{run.folder}: none of its ops is a node that Model Explorer shows")
    paths = []
    for figure, file in _FILES.items():
        known = {name: found[figure] for name in names if (found := figures[name]) and figure in found}
        together = [value for values in known.values() for value in values.values()]
        if not together:
            continue
        scale = thresholds(together, low_is_bad=file == "error")
        for name, values in known.items():
            shown = {nodes[name][op]: {"value": value} for op, value in values.items() if op in nodes[name]}
            path = folder / f"{name}.{file}.json"
            write_json(path, graphs[name].document(shown, {"name": figure, "thresholds": scale}))
            paths.append(path)
    paths += _placements(run, folder, graphs, nodes, wanted.phase)
    if len(names) > 1:
        paths.append(_navigation(run, folder, graphs, (names[0], names[1]), wanted.phase))
    return paths


def _placements(
    run: Run,
    folder: Path,
    graphs: Mapping[str, _Graph],
    nodes: Mapping[str, Mapping[str, tuple[int, str]]],
    phase: str | None,
) -> list[Path]:
    """What each op ran in: a delegate, or the interpreter."""
    places = {name: {op.op: op.delegate or _INTERPRETER for op in run.ops_of(name, phase)} for name in graphs}
    order = sorted({place for found in places.values() for place in found.values()})
    colours = {place: _PLACES[i % len(_PLACES)] for i, place in enumerate(order)}
    paths = []
    for name, graph in graphs.items():
        shown = {
            node: {"value": places[name][op], "bgColor": colours[places[name][op]], "textColor": "#000000"}
            for op, node in nodes[name].items()
        }
        path = folder / f"{name}.placement.json"
        write_json(path, graph.document(shown, {"name": "placement", "showExpandedSummaryOnGroupNode": True}))
        paths.append(path)
    return paths


def _navigation(run: Run, folder: Path, graphs: Mapping[str, _Graph], pair: tuple[str, str], phase: str | None) -> Path:
    sides = [measured_variant(run, name, phase).ops for name in pair]
    match = match_ops(sides[0], sides[1])
    found = [[graphs[name].node(op) for op in side] for name, side in zip(pair, sides, strict=True)]
    # Entries have no graph: where nodes of several are called alike, only the first graph's can be meant.
    first = [[node[1] if node is not None and node[0] == 0 else "" for node in side] for side in found]
    pairs = [(i, j) for i, j in match.pairs if first[0][i] and first[1][j]]
    path = folder / "sync_navigation.json"
    write_json(path, navigation(first[0], first[1], pairs))
    return path


FORMAT = Format("latency, error, energy and placement on the model's graph, for AI Edge Model Explorer", _write)
