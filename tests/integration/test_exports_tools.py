"""Exports of whole runs, by the command, opened in the tools that they are for."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from command_line import CommandLine
from planted.detector import Detector, DetectorWorld
from planted.world import PlantedOp, PlantedVariant, World
from qprof.record.manifest import PreparedTask
from qprof.report.exports.base import Wanted, get
from qprof.runtimes.litert.flatbuffer import read_model
from qprof.store.run import Run
from qprof.store.writer import save_predictions

# -- AI Edge Model Explorer -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def overlays(small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    line = CommandLine(tmp_path_factory.mktemp("overlays"))
    done = line("export", small_run, "--format", "model-explorer", "-o", line.folder / "out")
    assert (done.code, done.err) == (0, "")
    assert all(Path(path).is_file() for path in done.out.split())
    return line.folder / "out"


def _nodes(path: Path) -> dict[str, set[str]]:
    """Graph -> nodes of a .tflite file by Model Explorer's own adapter; where that is not installed, its rule."""
    try:
        from model_explorer.builtin_tflite_flatbuffer_adapter import BuiltinTfliteFlatbufferAdapter
    except ImportError:
        return {
            graph.name or ("main" if graph.index == 0 else f"subgraph_{graph.index}"): {
                str(op.index) for op in graph.ops
            }
            for graph in read_model(path).subgraphs
        }
    (collection,) = BuiltinTfliteFlatbufferAdapter().convert(str(path), {})["graphCollections"]
    return {graph["id"]: {node["id"] for node in graph["nodes"]} for graph in collection.graphs}


def test_every_overlay_is_of_nodes_that_there_are(overlays: Path, small_run: Path) -> None:
    run = Run(small_run)
    for entry in run.variants:
        nodes = _nodes(Path(entry.path or ""))
        for figure in ("latency", "placement"):
            document = json.loads((overlays / f"{entry.name}.{figure}.json").read_text())
            assert set(document) <= set(nodes)
            for graph, overlay in document.items():
                assert set(overlay["results"]) <= nodes[graph]
        named = {(graph, key) for graph, overlay in document.items() for key in overlay["results"]}
        assert len(named) == sum(op.type != "DELEGATE" for op in run.ops_of(entry.name))  # also in loops


def test_a_node_has_the_value_of_its_op(overlays: Path, small_run: Path) -> None:
    from qprof.findings.layers import layers

    run = Run(small_run)
    facts = read_model(Path(run.variant("a").path or ""))
    overlay = json.loads((overlays / "a.latency.json").read_text())
    placement = json.loads((overlays / "a.placement.json").read_text())
    (graph,) = overlay
    for row in layers(run, "a").rows:
        assert row.meta is not None
        (op,) = (one for one in facts.subgraphs[0].ops if str(one.index) == row.meta.op)
        assert op.type == row.type  # the place in the graph is that of the op
        if row.p50_us is not None:
            assert overlay[graph]["results"][row.meta.op] == {"value": row.p50_us.value}
        assert placement[graph]["results"][row.meta.op]["value"] == (row.delegate or "interpreter")


def test_one_scale_over_all_variants(overlays: Path) -> None:
    documents = [json.loads((overlays / f"{name}.latency.json").read_text()) for name in ("a", "b", "loop")]
    scales = [overlay["thresholds"] for document in documents for overlay in document.values()]
    assert all(scale == scales[0] for scale in scales)
    ends = [step["value"] for step in scales[0]]
    values = [one["value"] for d in documents for overlay in d.values() for one in overlay["results"].values()]
    assert ends == sorted(ends) and ends[-1] == max(values) and len(set(ends)) == len(ends) > 3
    assert all("gradient" not in overlay for document in documents for overlay in document.values())


def test_overlays_are_what_the_package_builds(overlays: Path) -> None:
    builder = pytest.importorskip("model_explorer.node_data_builder")
    for path in overlays.glob("*.*.json"):
        document = json.loads(path.read_text())
        built = {}
        for graph, overlay in document.items():
            keys = dict(overlay)
            results = {key: builder.NodeDataResult(**value) for key, value in keys.pop("results").items()}
            steps = [builder.ThresholdItem(**step) for step in keys.pop("thresholds", [])]
            built[graph] = builder.GraphNodeData(results=results, thresholds=steps, **keys)
        again = json.loads(builder.ModelNodeData(graphsData=built).to_json_string())
        assert {graph: one["results"] for graph, one in again.items()} == {g: o["results"] for g, o in document.items()}


def test_the_mapping_ties_nodes_once(overlays: Path, small_run: Path) -> None:
    run = Run(small_run)
    found = json.loads((overlays / "sync_navigation.json").read_text())
    assert found["type"] == "sync_navigation"
    pairs = [(entry["leftNodeIds"], entry["rightNodeIds"]) for entry in found["mappingEntries"]]
    left, right = [one for ids, _ in pairs for one in ids], [one for _, ids in pairs for one in ids]
    assert len(set(left)) == len(left) >= 3 and len(set(right)) == len(right)
    sides = [
        {str(op.index): op.type for op in read_model(Path(run.variant(n).path or "")).subgraphs[0].ops} for n in "ab"
    ]
    assert all(sides[0][a[0]] == sides[1][b[0]] for a, b in pairs)


# -- the command ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["perfetto", "chrome", "speedscope", "pprof", "parquet", "markdown", "latex", "hub"])
def test_every_form_is_written_by_the_command(qprof: CommandLine, small_run: Path, form: str) -> None:
    done = qprof("export", small_run, "--format", form, "-o", "out")
    assert (done.code, done.err) == (0, "")
    assert done.out.split() and all((qprof.folder / path).stat().st_size > 0 for path in done.out.split())


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--format", "csv", "-v", "a"], "writes whole tables"),
        (["--format", "pprof", "--only", "samples"], "--only names tables"),
        (["--format", "pprof", "-v", "a", "nix"], "no variant 'nix'"),
        (["--format", "coco-results"], "there are no COCO results"),
        (["--format", "nix"], "invalid choice"),
    ],
)
def test_what_cannot_be_is_told_in_a_line(qprof: CommandLine, small_run: Path, words: list[str], told: str) -> None:
    done = qprof("export", small_run, *words, "-o", "out")
    assert done.code == 2 and told in done.err and done.err.count("\n") == 1


def test_sql_by_the_command(qprof: CommandLine, small_run: Path) -> None:
    pytest.importorskip("duckdb")
    done = qprof(
        "sql", small_run, "select variant, count(*) n from blocks where kind = 'clean' group by 1 order by 1", "--json"
    )
    assert (done.code, done.err) == (0, "")
    assert json.loads(done.out) == [{"n": 5, "variant": name} for name in ("a", "b", "loop")]
    assert "samples" in qprof("sql", small_run).out
    refused = qprof("sql", small_run, "select * from read_text('/etc/hostname')")
    assert refused.code == 2 and "disabled by configuration" in refused.err and refused.err.count("\n") == 1


# -- scores -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def detectors(tmp_path_factory: pytest.TempPathFactory) -> Run:
    world = DetectorWorld.of({"float32": Detector(), "int8": Detector(found=0.75)})
    variants = [replace(each, section={"method": "float32"}) for each in world.variants]
    manifest = {"score_columns": ["AP", "AP50"], "samples": 60}
    return replace(world, variants=variants, manifest=manifest).record(tmp_path_factory.mktemp("detectors") / "run")


def test_pycocotools_scores_the_results_alike(detectors: Run, tmp_path: Path) -> None:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    paths = get("coco-results").write(detectors, tmp_path, Wanted())
    truth = COCO(str(detectors.folder.parent / "data" / "annotations.json"))
    for path, name in zip(paths, ("float32", "int8"), strict=True):
        scored = COCOeval(truth, truth.loadRes(str(path)), "bbox")
        scored.evaluate()
        scored.accumulate()
        scored.summarize()
        assert scored.stats[0] == pytest.approx(detectors.score(name, "AP"), abs=1e-9)


def test_the_hub_s_own_code_takes_the_scores(detectors: Run, tmp_path: Path) -> None:
    hub, yaml = pytest.importorskip("huggingface_hub"), pytest.importorskip("yaml")
    get("hub").write(detectors, tmp_path, Wanted(("float32", "int8")))
    entries = yaml.safe_load((tmp_path / "int8" / ".eval_results" / "qprof.yaml").read_text())
    parsed = hub.parse_eval_result_entries(entries)
    assert [(one.dataset_id, one.task_id) for one in parsed] == [
        ("annotations.json", "detection-AP"),
        ("annotations.json", "detection-AP50"),
    ]
    assert parsed[0].value == pytest.approx(detectors.score("int8", "AP"))
    assert "against float32 (95 %, paired by sample)" in parsed[0].notes
    assert hub.eval_result_entries_to_yaml(parsed) == entries
    card = hub.ModelCard((tmp_path / "int8" / "model-card.md").read_text())
    found = {one.metric_type: one for one in card.data.eval_results}
    assert found["AP"].metric_value == pytest.approx(detectors.score("int8", "AP"))
    assert found["AP"].task_type == "object-detection" and card.data.model_name == "int8"
    assert (
        found["latency_ms"].metric_value == pytest.approx(0.42, rel=0.2) and "95 %" in found["latency_ms"].metric_name
    )


@pytest.fixture(scope="module")
def language(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, list[str]]:
    """A run whose predictions of five rows were recorded, four of them right."""
    folder = tmp_path_factory.mktemp("language")
    words = ["<b>dog</b>", "=1+1", "cat\x1b", "\u202ebird", "fish"]
    texts = [f"{number} words that lead to {word}" for number, word in enumerate(words)]
    data = folder / "lambada_test.jsonl"
    data.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    section: dict[str, Any] = {"kind": "lastword", "data": str(data), "calibration_samples": 0}
    manifest = {"task": PreparedTask(section=section), "score_columns": ["accuracy", "perplexity"]}
    variants = [PlantedVariant("float32", [PlantedOp("conv", "CONV_2D", 20.0)])]
    run = World(variants, rounds=5, inferences=3, manifest=manifest).record(folder / "run")
    rows = {
        str(number): {
            "target": word,
            "tokens": 6,
            "target_tokens": 1,
            "greedy": number != 2,
            "ranks": [int(number == 2)],
            "log_likelihood": -0.5 - number,
            "first_rank": int(number == 2),
            "top5": [],
            "top5_ids": [],
            "top5_kinds": [],
            "naive_hit1": True,
            "naive_hit5": True,
            "naive_possible": True,
            "miss": None,
        }
        for number, word in enumerate(words)
    }
    save_predictions(run.folder, "float32", rows)
    return Run(run.folder), texts


def test_the_harness_s_files_hold_the_score(language: tuple[Run, list[str]], tmp_path: Path) -> None:
    run, texts = language
    paths = get("lm-eval").write(run, tmp_path, Wanted())
    results, samples = (
        json.loads(paths[0].read_text()),
        [json.loads(row) for row in paths[1].read_text().split("\n")[:-1]],
    )
    figures = results["results"]["lambada_openai"]
    assert figures["acc,none"] == 0.8 and figures["acc_stderr,none"] == pytest.approx(0.2)  # sqrt(0.2 / 5)
    assert figures["perplexity,none"] == pytest.approx(12.182494)  # exp(2.5)
    assert figures["perplexity_stderr,none"] == pytest.approx(12.182494 * (2.5 / 5) ** 0.5)
    assert [row["doc"]["text"] for row in samples] == texts
    for row, text in zip(samples, texts, strict=True):
        arguments = row["arguments"]["gen_args_0"]
        assert arguments["arg_0"] + arguments["arg_1"] == text and row["target"] == arguments["arg_1"]
    assert [row["acc"] for row in samples] == [1.0, 1.0, 0.0, 1.0, 1.0]


def test_the_harness_reads_its_files(language: tuple[Run, list[str]], tmp_path: Path) -> None:
    utils = pytest.importorskip("lm_eval.utils")
    paths = [str(path) for path in get("lm-eval").write(language[0], tmp_path, Wanted())]
    (results,) = utils.get_results_filenames(paths)
    (samples,) = utils.get_sample_results_filenames(paths)
    assert utils.get_file_task_name(Path(samples).name) == "lambada_openai"
    assert utils.get_file_datetime(Path(samples).name) in results
    pytest.importorskip("pytablewriter")
    table = utils.make_table(json.loads(Path(results).read_text()))
    assert "0.8000" in table and "±" in table and "↑" in table
    row = json.loads(Path(samples).read_text().splitlines()[0])
    assert row["target_hash"] == utils.hash_string(row["target"])
    assert row["doc_hash"] == utils.hash_string(json.dumps(row["doc"], indent=2, ensure_ascii=False))
