"""The commands on a real run: what they print, where, how wide, and what they say of bad input."""

from __future__ import annotations

import csv
import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.cells import cell_len

from command_line import QUICK, CommandLine
from one_estimator import assert_commands_agree
from qprof.cli.main import command_names

ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> CommandLine:
    """A command line for commands that write nothing."""
    return CommandLine(tmp_path_factory.mktemp("reader"))


def out_of(reader: CommandLine, *words: str | Path) -> str:
    done = reader(*words)
    assert (done.code, done.err) == (0, ""), done.err
    return done.out


def json_of(reader: CommandLine, *words: str | Path) -> Any:
    return json.loads(out_of(reader, *words, "--json"))


def fields(line: str) -> list[str]:
    return re.split("  +", line.strip())


def body(out: str) -> list[list[str]]:
    """The rows of a piped table, without its titles, header and notes, what a busy machine or random inputs make
    doubtful above it, and how near outputs are below it."""
    lines = [line for line in out.splitlines() if not line.startswith(("# ", "DOUBT ", "RANDOM INPUTS "))]
    table = "\n".join(lines).strip("\n").split("\n\n")[0]
    return [fields(line) for line in table.splitlines()][1:]


# -- help ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", command_names())
def test_help_of_every_command(reader: CommandLine, command: str) -> None:
    out = out_of(reader, command, "--help")
    assert out.startswith(f"usage: qprof {command}")
    assert all(len(line) <= 120 for line in out.splitlines())
    assert command in out_of(reader, "--help")


def test_no_command_prints_the_help(reader: CommandLine) -> None:
    assert out_of(reader) == out_of(reader, "--help")


def test_version(reader: CommandLine) -> None:
    assert re.fullmatch(r"qprof \d+\.\d+\.\d+\n", out_of(reader, "--version"))


# -- show, layers, diff, list -------------------------------------------------------------------------------------


def test_show(reader: CommandLine, small_run: Path) -> None:
    out = out_of(reader, "show", small_run)
    assert [row[0] for row in body(out)] == ["a", "b", "loop"]
    assert "# small: " in out
    figures = json_of(reader, "show", small_run)
    assert [row["name"] for row in figures] == ["a", "b", "loop"]
    for row in figures:
        (phase,) = row["phases"]
        assert phase["latency_us"]["low"] <= phase["latency_us"]["value"] <= phase["latency_us"]["high"]
        assert phase["inferences"] > 0
        assert phase["blocks"] == 5
    assert figures[0]["phases"][0]["ratio"] is None
    assert figures[1]["phases"][0]["ratio"]["log_ratio"]["value"] is not None


def test_runs_are_found_by_name_and_the_latest_is_the_default(reader: CommandLine, small_run: Path) -> None:
    line = CommandLine(reader.folder, {"QPROF_RUNS": str(small_run.parent)})
    expected = out_of(line, "show", small_run)
    for reference in ([], ["latest"], ["small"], ["sm"]):
        assert out_of(line, "show", *reference) == expected


def test_layers(reader: CommandLine, small_run: Path) -> None:
    rows = json_of(reader, "layers", small_run)
    assert [row["type"] for row in rows] == [
        "CONV_2D",
        "DEPTHWISE_CONV_2D",
        "ADD",
        "MEAN",
        "FULLY_CONNECTED",
        "SOFTMAX",
    ]
    assert [row["label"] for row in rows][:2] == ["stem", "depthwise"]
    assert 0 < sum(row["share"] for row in rows) < 1
    assert rows[0]["macs"] == 16 * 16 * 8 * 27
    assert [row[0] for row in body(out_of(reader, "layers", small_run))] == [row["label"] for row in rows]


def test_layers_of_another_variant(reader: CommandLine, small_run: Path) -> None:
    rows = json_of(reader, "layers", small_run, "--variant", "b")
    assert [row["type"] for row in rows] == ["CONV_2D", "MEAN", "FULLY_CONNECTED", "SOFTMAX"]


@pytest.mark.parametrize("key", ["time", "share", "macs", "gflops", "bytes"])
def test_layers_sorted(reader: CommandLine, small_run: Path, key: str) -> None:
    def figure(row: dict[str, Any]) -> float:
        sizes = (row["weight_bytes"] or 0) + (row["activation_bytes"] or 0)
        time = row["p50_us"]["value"] if row["p50_us"] else 0
        plain = {"share": row["share"], "macs": row["macs"], "gflops": row["gflop_per_s"], "bytes": sizes, "time": time}
        return plain[key] or 0

    values = [figure(row) for row in json_of(reader, "layers", small_run, "--sort", key)]
    assert len(values) == 6
    assert values == sorted(values, reverse=True)


@pytest.mark.parametrize("by", ["type", "delegate", "kernel"])
def test_layers_grouped(reader: CommandLine, small_run: Path, by: str) -> None:
    rows = json_of(reader, "layers", small_run, "--by", by)
    single = json_of(reader, "layers", small_run)
    assert sum(row["ops"] for row in rows) == 6
    assert sum(row["share"] for row in rows) == pytest.approx(sum(row["share"] for row in single))
    times = [row["p50_us"]["value"] for row in rows]
    assert times == sorted(times, reverse=True)
    assert len(body(out_of(reader, "layers", small_run, "--by", by))) == len(rows)


def test_layers_filtered_and_cut(reader: CommandLine, small_run: Path) -> None:
    assert [row["label"] for row in json_of(reader, "layers", small_run, "--filter", "conv_2d")] == [
        "stem",
        "depthwise",
    ]
    assert json_of(reader, "layers", small_run, "--filter", "no such op") == []
    largest = json_of(reader, "layers", small_run, "--sort", "time", "--top", "1")
    assert largest == json_of(reader, "layers", small_run, "--sort", "time")[:1]
    assert "1 of 6 rows shown" in out_of(reader, "layers", small_run, "--top", "1")
    assert "no rows" in out_of(reader, "layers", small_run, "--filter", "no such op")


def test_diff(reader: CommandLine, small_run: Path) -> None:
    table = json_of(reader, "diff", small_run, "a", "b")
    total = table["end_to_end"]["difference"]["value"]
    assert sum(row["delta_us"]["value"] for row in table["rows"]) == pytest.approx(total)
    kinds = {row["label"]: row["kind"] for row in table["rows"]}
    assert kinds["stem"] == "matched"
    assert kinds["depthwise"] == "removed"
    rows = body(out_of(reader, "diff", small_run, "a", "b"))
    assert rows[-1][:2] == ["end to end (p50)", "total"]
    line = CommandLine(reader.folder, {"QPROF_RUNS": str(small_run.parent)})
    assert out_of(line, "diff", "a", "b") == out_of(line, "diff", "small", "a", "b")


def test_diff_by_type_and_cut(reader: CommandLine, small_run: Path) -> None:
    types = {row[0] for row in body(out_of(reader, "diff", small_run, "a", "b", "--by", "type"))}
    assert {"CONV_2D", "SOFTMAX", "end to end (p50)"} <= types
    cut = body(out_of(reader, "diff", small_run, "a", "b", "--top", "2"))
    assert len(cut) == 2 + 1 + 2 + 1  # two ops, the others, what is no op's, the total
    assert cut[2][0].endswith("other ops")


def test_list(reader: CommandLine, small_run: Path, tmp_path: Path) -> None:
    out = out_of(reader, "list", small_run.parent)
    assert out.startswith("# 1 run in ")
    assert body(out)[0][:2] == ["small", "complete"]
    for name, content in (("bad", "{"), ("old", '{"schema_version": 0}'), ("odd", "[]")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.json").write_text(content)
    rows = body(out_of(reader, "list", tmp_path))
    assert sorted(row[:2] for row in rows) == [["bad", "unreadable"], ["odd", "unreadable"], ["old", "unreadable"]]
    assert "0 runs" in out_of(reader, "list", tmp_path / "none")


# -- export -------------------------------------------------------------------------------------------------------


def test_export_csv(reader: CommandLine, small_run: Path, tmp_path: Path) -> None:
    out = out_of(reader, "export", small_run, "-o", tmp_path / "out")
    names = ["summary", "layers", "samples", "scores", "outputs", "readings"]
    assert out.splitlines() == [str(tmp_path / "out" / f"{name}.csv") for name in names]
    with open(tmp_path / "out/summary.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    figures = json_of(reader, "show", small_run)
    assert [row["name"] for row in rows] == ["a", "b", "loop"]
    assert [float(row["latency_us"]) for row in rows] == [row["phases"][0]["latency_us"]["value"] for row in figures]
    with open(tmp_path / "out/layers.csv", newline="") as stream:
        layers = list(csv.DictReader(stream))
    assert next(row["name"] for row in layers if row["variant"] == "a") == "stem"
    with open(tmp_path / "out/samples.csv", newline="") as stream:
        samples = list(csv.DictReader(stream))
    assert (
        sum(row["variant"] == "a" and row["kind"] == "clean" for row in samples)
        == figures[0]["phases"][0]["inferences"]
    )


def test_export_json(reader: CommandLine, small_run: Path, tmp_path: Path) -> None:
    out = out_of(reader, "export", small_run, "-o", tmp_path, "--format", "json", "--only", "layers,scores")
    assert out.splitlines() == [str(tmp_path / "layers.json"), str(tmp_path / "scores.json")]
    assert sorted(os.listdir(tmp_path)) == ["layers.json", "scores.json"]
    rows = json.loads((tmp_path / "layers.json").read_text())
    assert {row["variant"] for row in rows} == {"a", "b", "loop"}
    # There are no labels: what is scored is how near the outputs are to the baseline's.
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert {row["metric"] for row in scores if row["variant"] == "b"} >= {"closeness", "cosine", "sqnr_db"}


# -- terminals and pipes ------------------------------------------------------------------------------------------

SHOWN = [
    ["show"],
    ["layers"],
    ["layers", "-v", "loop"],
    ["layers", "--by", "kernel"],
    ["diff", "a", "b"],
    ["diff", "a", "b", "--by", "type", "--top", "1"],
    ["list"],
]


def on_a_terminal(line: CommandLine, columns: int, *words: str) -> str:
    """What a command writes to a terminal that is `columns` wide."""
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        line.arguments(*words),
        cwd=line.folder,
        env={**line.variables(), "COLUMNS": str(columns)},
        stdin=terminal,
        stdout=terminal,
        stderr=subprocess.PIPE,
    )
    os.close(terminal)
    content = b""
    while True:
        try:
            piece = os.read(controller, 65536)
        except OSError:  # the last process that had the terminal open has gone
            break
        if not piece:
            break
        content += piece
    os.close(controller)
    err = process.communicate(timeout=60)[1]
    assert (process.returncode, err) == (0, b"")
    return content.decode()


@pytest.mark.parametrize("words", SHOWN, ids=" ".join)
def test_no_line_is_wider_than_the_terminal(reader: CommandLine, small_run: Path, words: list[str]) -> None:
    line = CommandLine(reader.folder, {"QPROF_RUNS": str(small_run.parent)})
    for columns in (80, 200):
        text = on_a_terminal(line, columns, *words)
        assert ANSI.search(text)
        lines = [ANSI.sub("", part) for part in text.replace("\r\n", "\n").split("\n")]
        assert len(lines) > 3
        assert max(map(cell_len, lines)) <= columns


@pytest.mark.parametrize("words", SHOWN, ids=" ".join)
def test_piped_output_has_no_escapes(reader: CommandLine, small_run: Path, words: list[str]) -> None:
    line = CommandLine(reader.folder, {"QPROF_RUNS": str(small_run.parent)})
    out = out_of(line, *words)
    assert "\x1b" not in out
    assert "\r" not in out


@pytest.mark.parametrize("reads", [0, 1])
@pytest.mark.parametrize("words", [["show"], ["layers"], ["layers", "--json"], ["export", "--only", "scores"]])
def test_reader_that_goes_early_is_no_error(
    reader: CommandLine, small_run: Path, tmp_path: Path, words: list[str], reads: int
) -> None:
    more = ["-o", str(tmp_path)] if words[0] == "export" else []
    process = reader.start(words[0], str(small_run), *words[1:], *more)
    assert process.stdout is not None
    if reads:
        process.stdout.readline()
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(timeout=60) == 0


# -- bad input ----------------------------------------------------------------------------------------------------


def one_line(line: CommandLine, *words: str | Path, says: str) -> None:
    done = line(*words)
    assert done.code == 2, done
    assert done.out == ""
    assert done.err.startswith("qprof: ")
    assert done.err.endswith("\n")
    assert done.err.count("\n") == 1, done.err
    assert re.search(says, done.err), done.err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["diff"], r"arguments are required.*see qprof diff --help"),
        (["diff", "RUN"], r"takes \[RUN\] and two variants"),
        (["diff", "RUN", "a", "b", "loop"], r"takes \[RUN\] and two variants"),
        (["diff", "RUN", "a", "zz"], r"no variant 'zz' in this run; it has a, b, loop"),
        (["diff", "RUN", "a", "b", "--by", "colour"], "invalid choice: 'colour'"),
        (["layers", "RUN", "-v", "zz"], r"no variant 'zz' in this run"),
        (["layers", "RUN", "--top", "0"], "--top"),
        (["layers", "RUN", "--top", "-3"], "--top"),
        (["layers", "RUN", "--top", "x"], "--top"),
        (["layers", "RUN", "--sort", "beauty"], "invalid choice: 'beauty'"),
        (["show", "no-such-run"], "no-such-run: no such run here or in"),
        (["show"], "no runs yet; make one with qprof run"),
        (["show", "x" * 300], "no such run"),
        (["show", "/"], "no such run"),
        (["show", "RUN", "--no-such-option"], "unrecognized arguments: --no-such-option"),
        (["export", "RUN", "--only", "beauty"], "--only beauty: no such table; there are summary, layers"),
        (["export", "RUN", "--format", "xml"], "invalid choice: 'xml'"),
        (["export", "RUN", "-o", "/proc/version/below"], "cannot be written"),
        (["no-such-command"], "invalid choice: 'no-such-command'.*see qprof --help"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_bad_words(reader: CommandLine, small_run: Path, words: list[str], says: str) -> None:
    one_line(reader, *(str(small_run) if word == "RUN" else word for word in words), says=says)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["missing.toml"], "missing.toml: no such profile"),
        (["key.toml"], r"key.toml: unknown key protocol.round; did you mean protocol.rounds\?"),
        (["broken.toml"], "broken.toml: not valid TOML"),
        (["noise.toml"], "noise.toml: the profile cannot be read"),
        (["folder.toml"], "folder.toml: the profile cannot be read"),
        (["key.toml", "A"], "give one profile, or model files"),
        (["missing.tflite"], "missing.tflite: no such model"),
        (["quickstrat"], "did you mean the profile quickstart"),
        (["folder"], "no variant could be made; folder: .*folder: no runtime takes this"),
        (["noise.tflite"], "no variant could be made; noise: .*noise.tflite"),
        (["cut.tflite"], "no variant could be made; cut: .*cut.tflite"),
        (
            ["A", "--variants", "int9"],
            r"variants\[0\]: there is no method 'int9' for a LiteRT model; did you mean int8\?",
        ),
        (["A", "--inputs", "missing.npy"], "missing.npy: cannot be read"),
        (["A", "--inputs", "noise.npy"], "noise.npy: cannot be read"),
        (["A", "--inputs", "shape.npy"], r"no variant could be loaded; a: .*shape.npy: shape \[2, 2\]"),
        (["A", "--inputs", "a.txt"], "give .npz files"),
        (["A", "--set", "protocol.rounds"], "write it as section.key=value"),
        (["A", "--set", "protocol.delegate=gpu"], "allowed: 'xnnpack', 'none'"),
        (["A", "--set", "protocol.block_ms=inf"], "protocol.block_ms"),
        (["A", "-o", "noise.npy/below"], "cannot be written"),
        (["A", "-o", "noise.npy"], "exists already"),
        (["A", "-o", "folder.toml/.."], "exists already"),
        (["A", "-o", "x" * 300], "too long"),
        (["--resume", "no-such-run"], "no such run"),
        (["--resume", "no-such-run", "A"], "--resume goes on with a run as it was begun"),
        (["embedded.toml"], "nothing.tflite"),
        (["no-images.toml"], "no-images.json: lists no images"),
        (["mismatch.toml"], "annotations do not match the images"),
        (["no-folder.toml"], "nowhere: is not a folder of images"),
        (["no-annotations.toml"], "none.json: cannot be read"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_bad_runs(qprof: CommandLine, models: Path, words: list[str], says: str) -> None:
    make_bad_files(qprof.folder, models)
    given = [str(models / "a.tflite") if word == "A" else word for word in words]
    one_line(qprof, "run", "-q", *([] if "--resume" in words else QUICK), *given, says=says)


def make_bad_files(folder: Path, models: Path) -> None:
    noise = np.random.default_rng(0).bytes(2000)
    for name in ("noise.tflite", "noise.toml", "noise.npy"):
        (folder / name).write_bytes(noise)
    (folder / "cut.tflite").write_bytes((models / "a.tflite").read_bytes()[:900])
    np.save(folder / "shape.npy", np.zeros((2, 2), np.float32))
    (folder / "key.toml").write_text('name = "k"\n[protocol]\nround = 3\n')
    (folder / "broken.toml").write_text("name = ")
    (folder / "embedded.toml").write_text('name = "e"\n[model]\npath = "embedded:nothing.tflite"\n')
    for name in ("folder", "folder.toml", "images"):
        (folder / name).mkdir()
    (folder / "images" / "other.png").write_bytes(noise)
    image = {"id": 1, "file_name": "one.png", "width": 8, "height": 8}
    for name, images in (("no-images", []), ("mismatch", [image])):
        content = {"images": images, "annotations": [], "categories": [{"id": 1, "name": "thing"}]}
        (folder / f"{name}.json").write_text(json.dumps(content))
    detections = (
        ("no-images", "no-images.json", "images"),
        ("mismatch", "mismatch.json", "images"),
        ("no-folder", "mismatch.json", "nowhere"),
        ("no-annotations", "none.json", "images"),
    )
    for name, listed, images in detections:
        (folder / f"{name}.toml").write_text(
            f'name = "d"\nvariants = ["float32"]\n[model]\npath = "{models / "a.tflite"}"\n'
            f'[task]\nkind = "detection"\nannotations = "{listed}"\nimages = "{images}"\n'
        )


def test_damaged_runs(qprof: CommandLine, models: Path) -> None:
    done = qprof("run", "-q", models / "a.tflite", *QUICK, "-o", "r")
    assert done.code == 0, done.err
    folder = qprof.folder / "r"
    whole = (folder / "samples.parquet").read_bytes()
    (folder / "samples.parquet").write_bytes(whole[: len(whole) // 2])
    one_line(qprof, "show", "r", says=r"samples\.parquet: damaged Parquet file")
    (folder / "samples.parquet").unlink()
    one_line(qprof, "show", "r", says=r"samples\.parquet: missing")
    (folder / "manifest.json").write_text('{"schema_version": 7}')
    one_line(qprof, "show", "r", says="written with schema version 7, this qprof reads 3")
    (folder / "manifest.json").write_text("{")
    for words in (["show", "r"], ["layers", "r"], ["export", "r"], ["run", "-q", "--resume", "r"]):
        one_line(qprof, *words, says="damaged, not valid JSON")


def test_text_from_a_model_cannot_command_the_terminal(qprof: CommandLine, models: Path) -> None:
    """Names are untrusted: what a file's name holds must not reach the terminal as an escape sequence."""
    name = "evil\x1b[31m\n.tflite"
    (qprof.folder / name).write_bytes(b"nothing")
    done = qprof("run", "-q", name, *QUICK)
    assert done.code == 2
    assert "\x1b" not in done.err
    assert done.err.count("\n") == 1


def test_the_commands_say_one_thing_of_one_quantity(reader: CommandLine, small_run: Path) -> None:
    def out(*words: str | Path) -> str:
        done = reader(*words)
        assert done.code in (0, 1), done.err
        return done.out

    assert assert_commands_agree(small_run, out, lambda *words: json.loads(out(*words, "--json"))) == 2


@pytest.mark.parametrize("command", ["show", "layers", "explain"])
def test_reading_a_run_imports_no_pandas(reader: CommandLine, small_run: Path, command: str) -> None:
    """pyarrow does so where it can, for a quarter of a second."""
    program = "import sys; from qprof.cli import main; main.main(sys.argv[1:]); sys.exit('pandas' in sys.modules)"
    words = [sys.executable, "-c", program, command, str(small_run)]
    done = subprocess.run(words, env=reader.variables(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
