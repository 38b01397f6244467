"""Files for other tools: each is opened by the tool's own parser, classes or schema, with names that mean harm."""

from __future__ import annotations

import csv
import gzip
import json
import math
import re
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

from planted.world import PlantedOp, PlantedVariant, World
from qprof.errors import QprofError, StoreError
from qprof.findings.flame import model_flame
from qprof.record.readings import Reading
from qprof.record.rows import OP_COLUMNS
from qprof.record.sensors import CodeCarbonFacts, SampledChannel, SensorFacts
from qprof.report.exports import latex, markdown, timeline, wire, yaml
from qprof.report.exports.base import Wanted, get, names
from qprof.report.exports.timeline import Slice
from qprof.report.table import Column, Table
from qprof.store.frames import table_names
from qprof.store.run import Run

#: Markup, control characters, LaTeX's and Markdown's signs, a formula, a lone surrogate, text that runs backwards.
HOSTILE = [
    "<script>alert(1)</script>",
    '=HYPERLINK("http://x")',
    "@SUM(1+1)",
    "\\input{/etc/passwd} & 50% $x_1^2$ #{}~",
    "a|b`c`*d*[e](javascript:f)",
    "\x1b[31mred\x00\u202eltr\r\nnext: - line",
    "undecodable \udcff byte",
    "---",
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Two variants whose ops have hostile names, inside a partition of a delegate, with readings of CodeCarbon."""

    def ops(us: float) -> list[PlantedOp]:
        inside = [PlantedOp(name, "CONV_2D", us, parent="part", kernel="k<b>") for name in HOSTILE[:4]]
        return [PlantedOp("part", "DELEGATE", 0.0, delegate="XNNPACK"), *inside] + [
            PlantedOp(name, "ADD", us / 2) for name in HOSTILE[4:6]
        ]

    def carbon(number: int, start: int, end: int) -> list[Reading]:
        return [
            Reading("codecarbon.seconds", end, (end - start) * 1e-9, "s", "measured"),
            Reading("codecarbon.cpu.energy", end, 3.6, "J", "estimated"),
            Reading("board.power", start, 10.0 + number, "W", "measured"),
            Reading("board.power", end, 20.0 + number, "W", "measured"),
        ]

    variants = [
        PlantedVariant("float32", ops(40.0), readings=carbon),
        PlantedVariant("int8", ops(30.0), readings=carbon),
    ]
    facts = SensorFacts(
        channels=[SampledChannel("board.power", "W", "gauge", "measured", "a board", rate_hz=10.0)],
        codecarbon=CodeCarbonFacts(version="3.3.2", country="FRA", grid_g_per_kwh=56.0),
    )
    folder = tmp_path_factory.mktemp("exports") / "run"
    return World(variants, rounds=6, inferences=5, manifest={"sensors": facts}).record(folder)


def exported(run: Run, form: str, folder: Path, wanted: Wanted | None = None) -> list[Path]:
    paths = get(form).write(run, folder, wanted or Wanted())
    assert paths and all(path.is_file() for path in paths)
    return paths


# -- traces -----------------------------------------------------------------------------------------------------------


class _Read:
    """A .pftrace as perfetto's own classes read it, interned names resolved."""

    def __init__(self, path: Path) -> None:
        perfetto = pytest.importorskip("perfetto.protos.perfetto.trace.perfetto_trace_pb2")
        trace = perfetto.Trace()
        trace.ParseFromString(path.read_bytes())
        self.tracks: dict[int, Any] = {}
        self.slices: dict[int, list[tuple[str, int, int, dict[str, Any]]]] = defaultdict(list)
        self.counts: dict[int, list[tuple[int, float]]] = defaultdict(list)
        interned: dict[str, dict[int, str]] = {"event_names": {}, "debug_annotation_names": {}}
        values: dict[int, str] = {}
        stacks: dict[int, list[tuple[str, int, dict[str, Any]]]] = defaultdict(list)
        assert trace.packet[0].sequence_flags == 1
        for packet in trace.packet:
            assert packet.trusted_packet_sequence_id == 1
            for kind, known in interned.items():
                known |= {one.iid: one.name for one in getattr(packet.interned_data, kind)}
            values |= {one.iid: one.str.decode() for one in packet.interned_data.debug_annotation_string_values}
            if packet.HasField("track_descriptor"):
                self.tracks[packet.track_descriptor.uuid] = packet.track_descriptor
            if not packet.HasField("track_event"):
                continue
            event = packet.track_event
            assert event.track_uuid in self.tracks
            stack = stacks[event.track_uuid]
            if event.type == 1:
                assert packet.sequence_flags == 2
                facts = {
                    interned["debug_annotation_names"][one.name_iid]: values[one.string_value_iid]
                    if one.string_value_iid
                    else one.int_value
                    for one in event.debug_annotations
                }
                assert not stack or packet.timestamp >= stack[-1][1]
                stack.append((interned["event_names"][event.name_iid], packet.timestamp, facts))
            elif event.type == 2:
                name, start, facts = stack.pop()
                self.slices[event.track_uuid].append((name, start, packet.timestamp, facts))
            else:
                assert event.type == 4
                self.counts[event.track_uuid].append((packet.timestamp, event.double_counter_value))
        assert not any(stacks.values())


def test_perfetto_reads_the_trace(run: Run, tmp_path: Path) -> None:
    (path,) = exported(run, "perfetto", tmp_path)
    read = _Read(path)
    processes = [one for one in read.tracks.values() if one.HasField("process")]
    assert [one.process.process_name for one in processes] == [f"{name} ({run.name})" for name in ("float32", "int8")]
    by_process = [
        [slices for uuid, slices in read.slices.items() if read.tracks[uuid].parent_uuid == one.uuid]
        for one in processes
    ]
    for name, (slices,) in zip(("float32", "int8"), by_process, strict=True):
        told = Counter(one[0] for one in slices)
        assert told["clean block"] == told["profiled block"] == 6
        assert told["inference"] == len(run.latency(name).duration_ns) + len(run.latency(name, "profiled").duration_ns)
        events = [one for one in slices if "op" in one[3]]
        assert len(events) == len(run.ops(name).duration_ns)
        assert {one[3]["type"] for one in events} == {"CONV_2D", "ADD", "DELEGATE"}
        assert {one[3].get("kernel") for one in events} == {"k<b>", None}
        # Times are those that were recorded.
        recorded = int(run.latency(name).duration_ns.sum() + run.latency(name, "profiled").duration_ns.sum())
        assert sum(end - start for what, start, end, _ in slices if what == "inference") == recorded
    first, second = ([one for one in slices if one[0].endswith("block")] for (slices,) in by_process)
    assert [one[1] for one in first] == [one[1] for one in second]  # blocks of one kind and round begin together
    assert sum(end - start for _, start, end, _ in first) > sum(end - start for _, start, end, _ in second)


def test_power_is_a_counter_in_watts(run: Run, tmp_path: Path) -> None:
    read = _Read(exported(run, "perfetto", tmp_path)[0])
    counters = [one for one in read.tracks.values() if one.HasField("counter")]
    assert [(one.name, one.counter.unit_name) for one in counters] == [("board.power (measured)", "W")] * 2
    for one in counters:
        watts = {first + number for first in (10.0, 20.0) for number in range(6)}
        assert {value for _, value in read.counts[one.uuid]} == watts


def test_chrome_has_the_same_slices(run: Run, tmp_path: Path) -> None:
    (path,) = exported(run, "chrome", tmp_path)
    assert path.read_bytes().isascii()
    document = json.loads(path.read_text())
    slices = [one for one in document["traceEvents"] if one["ph"] == "X"]
    read = _Read(exported(run, "perfetto", tmp_path)[0])
    expected = Counter((name, start, end) for slices in read.slices.values() for name, start, end, _ in slices)
    assert Counter((e["name"], round(e["ts"] * 1e3), round((e["ts"] + e["dur"]) * 1e3)) for e in slices) == expected
    threads: dict[tuple[int, int], list[tuple[float, float]]] = defaultdict(list)
    for one in slices:
        threads[one["pid"], one["tid"]].append((one["ts"], one["ts"] + one["dur"]))
    for spans in threads.values():  # slices of a thread nest
        stack: list[float] = []
        for start, end in sorted(spans, key=lambda span: (span[0], -span[1])):
            while stack and stack[-1] <= start + 1e-6:
                stack.pop()
            assert not stack or end <= stack[-1] + 1e-6
            stack.append(end)
    assert {one["args"]["name"] for one in document["traceEvents"] if one["name"] == "process_name"} == {
        f"float32 ({run.name})",
        f"int8 ({run.name})",
    }


def test_rounds_are_as_many_as_asked_for(run: Run) -> None:
    assert timeline.timeline(run, Wanted(rounds=2)).rounds == [0, 1]
    assert timeline.timeline(run, Wanted()).rounds == list(range(6))


def test_a_trace_has_an_end(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timeline, "USUAL_SLICES", 200)
    found = timeline.timeline(run, Wanted())
    assert 1 <= len(found.rounds) < 6 and f"{len(found.rounds)} of 6 rounds" in found.says


def test_slices_that_overlap_get_a_track_of_their_own() -> None:
    tracks: list[list[Slice]] = [[]]
    spans = [
        ("block", 0, 100_000),
        ("a", 0, 40_000),
        ("b", 20_000, 60_000),
        ("c", 61_000, 101_000),
        ("late", 62_000, 170_000),
    ]
    timeline._nest(tracks, [Slice(name, start, end) for name, start, end in spans], at=7)
    placed = [[(one.name, one.start_ns, one.end_ns) for one in track] for track in tracks]
    assert placed[0] == [("block", 7, 100_007), ("a", 7, 40_007), ("c", 61_007, 100_007)]  # 1 µs late: rounding
    assert placed[1] == [("b", 20_007, 60_007), ("late", 62_007, 170_007)]


def test_rounding_moves_no_slice_to_another_track() -> None:
    """Kernels that a delegate timed in whole microseconds, one of which seems to begin before the other's end."""
    tracks: list[list[Slice]] = [[]]
    spans = [("first", 0, 40_000), ("second", 39_000, 80_000), ("inside", 39_000, 50_000)]
    timeline._nest(tracks, [Slice(name, start, end) for name, start, end in spans], at=0)
    assert [(one.name, one.start_ns, one.end_ns) for one in tracks[0]] == [
        ("first", 0, 40_000),
        ("second", 40_000, 80_000),
        ("inside", 40_000, 50_000),
    ]
    assert len(tracks) == 1


@pytest.mark.parametrize("value", [0, 1, 127, 128, 16383, 16384, 2**31, 2**34 + 5, 2**63 - 1, -1, -(2**63)])
def test_integers_are_those_of_protobuf(value: int) -> None:
    wrappers = pytest.importorskip("google.protobuf.wrappers_pb2")
    expected = wrappers.Int64Value(value=value).SerializeToString()
    assert (wire.integer(1, value) if value else b"") == expected  # a zero is left out there


# -- profiles ---------------------------------------------------------------------------------------------------------


def _pprof() -> Any:
    """The message Profile, defined as pprof's profile.proto has its fields."""
    descriptor_pb2 = pytest.importorskip("google.protobuf.descriptor_pb2")
    from google.protobuf import descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="profile.proto", package="perftools.profiles", syntax="proto3")
    kinds = {"int64": 3, "uint64": 4, "bool": 8, "string": 9}
    messages = {
        "ValueType": "int64 type 1, int64 unit 2",
        "Label": "int64 key 1, int64 str 2, int64 num 3, int64 num_unit 4",
        "Sample": "uint64* location_id 1, int64* value 2, Label* label 3",
        "Line": "uint64 function_id 1, int64 line 2, int64 column 3",
        "Location": "uint64 id 1, uint64 mapping_id 2, uint64 address 3, Line* line 4, bool is_folded 5",
        "Function": "uint64 id 1, int64 name 2, int64 system_name 3, int64 filename 4, int64 start_line 5",
        "Profile": "ValueType* sample_type 1, Sample* sample 2, Location* location 4, Function* function 5, "
        "string* string_table 6, int64 drop_frames 7, int64 keep_frames 8, int64 time_nanos 9, "
        "int64 duration_nanos 10, "
        "ValueType period_type 11, int64 period 12, int64* comment 13, int64 default_sample_type 14, int64 doc_url 15",
    }
    for name, fields in messages.items():
        made = file.message_type.add(name=name)
        for field in fields.split(", "):
            kind, label, number = field.split()
            one = made.field.add(name=label, number=int(number), label=3 if kind.endswith("*") else 1)
            plain = kind.rstrip("*")
            if plain in kinds:
                one.type = kinds[plain]
            else:
                one.type, one.type_name = 11, f".perftools.profiles.{plain}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("perftools.profiles.Profile"))


def test_pprof_has_both_and_the_difference(run: Run, tmp_path: Path) -> None:
    (path,) = exported(run, "pprof", tmp_path)
    profile = _pprof()()
    profile.ParseFromString(gzip.decompress(path.read_bytes()))
    strings = profile.string_table
    assert strings[0] == "" and len(set(strings)) == len(strings)
    assert [(strings[one.type], strings[one.unit]) for one in profile.sample_type] == [
        ("float32", "nanoseconds"),
        ("int8", "nanoseconds"),
        ("int8 - float32", "nanoseconds"),
    ]
    functions = {one.id: strings[one.name] for one in profile.function}
    locations = {one.id: functions[one.line[0].function_id] for one in profile.location}
    found = {tuple(locations[i] for i in reversed(one.location_id)): list(one.value) for one in profile.sample}
    assert all(values[2] == values[1] - values[0] for values in found.values())
    flame = model_flame(run, "float32")
    assert sum(values[0] for values in found.values()) == pytest.approx(1e3 * flame.root.value, abs=len(found))
    assert ("part", "CONV_2D", "<script>alert(1)</script>", "k<b>") in found
    assert all(text.isprintable() for text in strings)


def test_speedscope_takes_the_profile(run: Run, tmp_path: Path) -> None:
    """By the rules of its file-format-spec.ts, as a schema."""
    jsonschema = pytest.importorskip("jsonschema")
    (path,) = exported(run, "speedscope", tmp_path)
    document = json.loads(path.read_text())
    number, text = {"type": "number"}, {"type": "string"}
    frame = {
        "type": "object",
        "required": ["name"],
        "properties": {"name": text, "file": text, "line": number, "col": number},
        "additionalProperties": False,
    }
    sampled = {
        "type": "object",
        "required": ["type", "name", "unit", "startValue", "endValue", "samples", "weights"],
        "properties": {
            "type": {"const": "sampled"},
            "name": text,
            "unit": {"enum": ["bytes", "microseconds", "milliseconds", "nanoseconds", "none", "seconds"]},
            "startValue": number,
            "endValue": number,
            "samples": {"type": "array", "items": {"type": "array", "items": {"type": "integer", "minimum": 0}}},
            "weights": {"type": "array", "items": number},
        },
        "additionalProperties": False,
    }
    schema = {
        "type": "object",
        "required": ["$schema", "shared", "profiles"],
        "properties": {
            "$schema": {"const": "https://www.speedscope.app/file-format-schema.json"},
            "shared": {
                "type": "object",
                "required": ["frames"],
                "properties": {"frames": {"type": "array", "items": frame}},
            },
            "profiles": {"type": "array", "items": sampled, "minItems": 1},
            "name": text,
            "exporter": text,
            "activeProfileIndex": number,
        },
        "additionalProperties": False,
    }
    jsonschema.validate(document, schema)
    for one in document["profiles"]:
        assert len(one["samples"]) == len(one["weights"])
        assert max(max(sample) for sample in one["samples"]) < len(document["shared"]["frames"])
        assert one["endValue"] == pytest.approx(sum(one["weights"]))


# -- tables -----------------------------------------------------------------------------------------------------------


def test_parquet_is_read_by_pandas_and_duckdb(run: Run, tmp_path: Path) -> None:
    pandas, duckdb = pytest.importorskip("pandas"), pytest.importorskip("duckdb")
    paths = {path.stem: path for path in exported(run, "parquet", tmp_path)}
    assert set(paths) == {*table_names(run), "summary", "layers"}
    frame = pandas.read_parquet(paths["ops"])
    assert list(frame.columns) == list(OP_COLUMNS) and len(frame) == run.op_events.num_rows
    told = duckdb.sql(
        f"select variant, sum(duration_ns) from '{paths['samples']}' where kind = 'clean' group by 1"
    ).fetchall()
    assert dict(told) == {name: int(run.latency(name).duration_ns.sum()) for name in ("float32", "int8")}


def test_frames_are_the_run_s_tables(run: Run) -> None:
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    ops = run.to_pandas("ops")
    assert isinstance(ops, pandas.DataFrame) and len(ops) == run.op_events.num_rows
    assert ops.groupby("variant", observed=True).duration_ns.sum()["int8"] == run.ops("int8").duration_ns.sum()
    meta = run.to_polars("op_meta")
    assert isinstance(meta, polars.DataFrame)
    assert meta.filter(polars.col("variant") == "int8")["op"].to_list() == [op.op for op in run.op_meta["int8"]]
    assert run.to_arrow().num_rows == run.samples.num_rows
    with pytest.raises(StoreError, match="no table 'nix'"):
        run.to_arrow("nix")


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def test_markdown_shows_names_as_they_are(run: Run, tmp_path: Path) -> None:
    paths = exported(run, "markdown", tmp_path)
    assert [path.name for path in paths] == ["summary.md", "difference-float32-int8.md"]
    lines = [line for line in paths[1].read_text().splitlines() if line.startswith("|")]
    assert len({len(_cells(line)) for line in lines}) == 1  # a name adds no column
    text = "\n".join(lines)
    assert "<" not in text and "javascript:f" in text and "](" not in text.replace("\\](", "")
    assert "`" not in text.replace("\\`", "") and "\x1b" not in text and "\u202e" not in text
    assert r"B-A \[95 %\] (µs)" in lines[0]  # intervals and units


def test_markdown_is_rendered_as_text() -> None:
    rendered = pytest.importorskip("markdown_it").MarkdownIt("commonmark").enable("table")
    table = Table([Column("op", "op", align="left")], [{"op": name} for name in HOSTILE])
    page = rendered.render(markdown.markdown(table))
    assert page.count("<td") == len(HOSTILE)
    assert not re.search(r"<(?!/?(table|thead|tbody|tr|th|td|p)\b)", page)


def test_latex_has_no_command_of_a_name(run: Run, tmp_path: Path) -> None:
    text = exported(run, "latex", tmp_path)[1].read_text()
    body = text[text.index(r"\midrule") : text.index(r"\bottomrule")]
    commands = set(re.findall(r"\\([a-zA-Z]+)", body)) - {"midrule"}
    assert commands <= {
        *("textbackslash", "textasciitilde", "textasciicircum", "textless", "textgreater", "textbar", "textquotedbl"),
        *("textasciigrave", "textquotesingle", "textmu"),
    }
    rows = [line for line in body.splitlines() if line.endswith(r"\\")]
    assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {8}
    assert not re.findall(r"(?<!\\)[#%_]", body) and body.count("{") == body.count("}")
    assert body.isascii()


def test_latex_keeps_figures() -> None:
    table = Table([Column("p50 [95 %]", "p50", unit="µs")], [{"p50": "-1.5 [-2.0, 1.0]"}, {"p50": None}])
    text = latex.latex(table, "x y")
    assert (
        r"p50 {[}95 \%{]} (\textmu{}s) \\" in text and "$-$1.5 {[}$-$2.0, 1.0{]} \\\\" in text and "\n-- \\\\" in text
    )
    assert r"\label{tab:x-y}" in text


# -- results ----------------------------------------------------------------------------------------------------------


def test_yaml_is_read_back() -> None:
    reader = pytest.importorskip("yaml")
    value = {
        "a": [{"b": text, "c": [1, 2.5, None, True, []]} for text in [*HOSTILE[:6], "no", "1e3", "é\x7f\x85😀"]],
        "d": {},
    }
    assert reader.safe_load(yaml.dump(value)) == value
    assert reader.safe_load(yaml.dump([[1, [2]], "x"])) == [[1, [2]], "x"]
    with pytest.raises(ValueError, match="nan"):
        yaml.dump({"a": math.nan})


def test_emissions_are_codecarbon_s(run: Run, tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    (path,) = exported(run, "codecarbon", tmp_path)
    with path.open(newline="") as stream:
        header = next(csv.reader(stream))
    data = pytest.importorskip("codecarbon.output_methods.emissions_data")
    fields = list(data.EmissionsData.__dataclass_fields__)
    assert header == [name for name in fields if name not in ("longitude", "latitude")]
    frame = pandas.read_csv(path).set_index("experiment_id")
    row = frame.loc["int8"]
    assert row.cpu_energy == pytest.approx(6 * 3.6 / 3.6e6) and row.energy_consumed == row.cpu_energy
    assert row.emissions == pytest.approx(row.cpu_energy * 56.0 / 1e3)
    assert row.cpu_power == pytest.approx(6 * 3.6 / row.duration)
    assert math.isnan(row.gpu_energy) and math.isnan(row.ram_energy) and row.country_iso_code == "FRA"


# -- what cannot be ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "wanted", "told"),
    [
        ("coco-results", Wanted(), "not one of finding objects"),
        ("lm-eval", Wanted(), "none that lm-evaluation-harness has"),
        ("pprof", Wanted(("int8", "float32", "int8 ")), "no variant 'int8 '"),
        ("pprof", Wanted(("float32",)), "takes two variants"),
        ("perfetto", Wanted(("nix",)), "no variant 'nix'"),
        ("speedscope", Wanted(phase="decode"), "no phase 'decode'"),
    ],
)
def test_refusals(run: Run, tmp_path: Path, form: str, wanted: Wanted, told: str) -> None:
    with pytest.raises(StoreError, match=re.escape(told)):
        get(form).write(run, tmp_path, wanted)
    assert list(tmp_path.iterdir()) == []


def test_a_form_that_there_is_not() -> None:
    with pytest.raises(QprofError, match="--format nix: no such form; there are chrome"):
        get("nix")


def test_every_form_is_described() -> None:
    page = (Path(timeline.__file__).parent / "README.md").read_text(encoding="utf-8")
    assert set(names()) <= set(re.findall(r"`([a-z-]+)`", page))
    assert all(get(name).says for name in names())
