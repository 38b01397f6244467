"""Builds the libFuzzer targets of this folder and runs each for some seconds.

    python csrc/fuzz/run.py --seconds 60

Needs clang++ with its sanitizers (Debian: apt-get install clang); without, it says so and is done. The seeds are made
here; what is found is kept in --findings, from where `TARGET FILE` shows it again.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
SOURCES = HERE.parent
#: Target -> the folder that it tests.
TARGETS = {"fuzz_coco_json": "coco_json", "fuzz_topk": "topk"}
#: As setup.py has them, with what finds errors.
_FLAGS = ["-std=c++20", "-ffp-contract=off", "-O1", "-g", "-fno-omit-frame-pointer"]
_FLAGS += ["-fsanitize=fuzzer-no-link,address,undefined", "-fno-sanitize-recover=undefined"]


def seeds(target: str) -> Iterator[bytes]:
    """What a target begins with: whole files of the formats, and some of what the formats do not allow."""
    if target == "fuzz_topk":
        rng = random.Random(0)
        for dtype, vocabulary in ((0, 7), (1, 33), (2, 257), (0, 2048)):
            width = 4 if dtype == 0 else 2
            for rows in (1, 5):
                header = struct.pack("<BHBBBBB", dtype, vocabulary - 1, 0, 3, rng.randrange(3), rng.randrange(3), 0)
                yield header + rng.randbytes(rows * vocabulary * width)
                yield header + bytes(rows * vocabulary * width)
        return
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 1.5, 2e1, -0.25]}
    whole = {
        "info": {"a": [None, True, {"b": "\u00e9\ud83d\ude00"}]},
        "images": [{"id": 1, "width": 640, "height": 480, "file_name": "a.jpg"}],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2}],
        "annotations": [{**box, "area": 30.0, "iscrowd": 0}, {**box, "id": 2, "ignore": 1, "segmentation": [[1, 2]]}],
    }
    detections = [{**box, "score": 0.5}, {**box, "score": 1e-300, "keypoints": [1, 2, 3]}]
    for value in (whole, detections, [], {}, [[]], [detections[0]] * 60):
        for indent in (None, 1):
            yield json.dumps(value, indent=indent).encode()
    yield json.dumps(whole, ensure_ascii=False).encode("utf-8", "surrogatepass")
    yield from (b"[" * 3000, b'[{"score": 1e999, "image_id": 99999999999999999999}]', b"\xef\xbb\xbf[]", b'["\\ud800"]')


def why_not() -> str:
    """Why this machine cannot fuzz: no compiler, or one without its runtimes; "" where it can."""
    if shutil.which("clang++") is None:
        return "clang++ is not installed"
    with tempfile.TemporaryDirectory(prefix="qprof-fuzz-") as folder:
        source = Path(folder) / "none.cpp"
        source.write_text('extern "C" int LLVMFuzzerTestOneInput(const unsigned char*, unsigned long) { return 0; }\n')
        command = ["clang++", "-fsanitize=fuzzer,address,undefined", str(source), "-o", str(source.with_suffix(""))]
        linked = subprocess.run(command, capture_output=True, check=False).returncode == 0
    return "" if linked else "clang++ has no libFuzzer and sanitizers"


def build(target: str, folder: Path) -> Path:
    """Compile a target with the sources that it tests. Raises `CalledProcessError`."""
    sources = SOURCES / TARGETS[target]
    objects = []
    for source in [HERE / f"{target}.cpp", *sorted(sources.glob("*.cpp"))]:
        objects.append(folder / f"{target}-{source.stem}.o")
        subprocess.run(["clang++", *_FLAGS, f"-I{sources}", "-c", str(source), "-o", str(objects[-1])], check=True)
    program = folder / target
    link = ["clang++", "-fsanitize=fuzzer,address,undefined", "-pthread", *map(str, objects), "-o", str(program)]
    subprocess.run(link, check=True)
    return program


def run(target: str, seconds: int, findings: Path) -> int:
    """The exit code of a target that was built and run; 0 where nothing was found."""
    with tempfile.TemporaryDirectory(prefix="qprof-fuzz-") as temporary:
        folder = Path(temporary)
        corpus = folder / "corpus"
        corpus.mkdir()
        for number, content in enumerate(seeds(target)):
            (corpus / f"seed-{number:02d}").write_bytes(content)
        options = [f"-max_total_time={seconds}", "-max_len=16384", "-timeout=10", "-rss_limit_mb=2048"]
        options += ["-print_final_stats=1", "-verbosity=0", f"-artifact_prefix={findings}/{target}-"]
        command = [str(build(target, folder)), *options, str(corpus)]
        return subprocess.run(command, check=False).returncode


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=60, help="for each target (default: 60)")
    parser.add_argument("--findings", type=Path, default=Path(), help="folder for what is found (default: this one)")
    options = parser.parse_args()
    why = why_not()
    if why:
        print(f"{why}: nothing is fuzzed", file=sys.stderr)
        return 0
    codes = {target: run(target, options.seconds, options.findings.resolve()) for target in TARGETS}
    for target, code in codes.items():
        print(f"{target}: {'nothing found' if code == 0 else f'exit code {code}'}")
    return int(any(codes.values()))


if __name__ == "__main__":
    sys.exit(main())
