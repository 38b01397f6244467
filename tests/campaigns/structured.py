"""Changes of a file that know its format: the rest of it stays whole, so that what reads it comes as far as the change.

Each function takes a file's bytes and a source of random numbers, and gives other bytes. What a format has that could
be run (a pickle, a module to import) is put in with a payload that writes a file: see `PICKLE`.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import pickle
import random
import struct
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

Change = Callable[[bytes, random.Random], bytes]

#: Name of the file that a payload writes into the current folder, if it is run.
RAN = "ran-by-a-stranger"

NUMBERS = (0, 1, 2, 7, 255, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**53, 2**62, 2**63 - 1, 2**63, 2**64 - 1)
TEXTS = ("", "x" * 3000, "\x1b[31m\u202e", "../../x", "/dev/zero", "NaN", "\0", "a\nb", "%s{0}", "\ud800", "é" * 200)
ODD: list[Any] = [None, -1, 0, 1e308, 10**30, "", "x" * 3000, "\x1b[31m\u202e", [], {}, [[]], True, "NaN", {"a": 1}]
ODD += ["../../x", 2**63, 1.5, [1] * 50, "/dev/zero", -(2**31)]


class _Runs:
    def __reduce__(self) -> tuple[Any, ...]:
        return open, (RAN, "w")


PICKLE = pickle.dumps(_Runs())


# -- JSON ---------------------------------------------------------------------------------------------------------


def values(value: Any, rng: random.Random, odd: list[Any] = ODD) -> bytes:
    """JSON with some of its values replaced or left out."""
    for _ in range(rng.choice((1, 1, 3))):
        found = list(places(value))
        if not found:
            break
        holder, key = rng.choice(found)
        if rng.random() < 0.25:
            del holder[key]
        else:
            # A copy: the next change may be one inside it, of which every later file would hold the changed one, or
            # one that holds itself.
            holder[key] = copy.deepcopy(rng.choice(odd))
    return json.dumps(value).encode()


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in JSON that holds a value, as (what holds it, key)."""
    pending = [value]
    while pending:
        found = pending.pop()
        entries = list(found.items() if isinstance(found, dict) else enumerate(found))
        for key, inner in entries[:200]:
            yield found, key
            if isinstance(inner, (dict, list)):
                pending.append(inner)


_MARK = "a place for what json.dumps would not write"


def of_json(content: bytes, rng: random.Random) -> bytes:
    """JSON with a value that json.dumps does not write (numbers without end, keys twice, nesting), or one moved."""
    value = json.loads(content)
    found = list(places(value))
    if not found or rng.random() < 0.3:
        return values(value, rng)
    # Half of them by their keys, each alike: what is rare among thousands of names and numbers matters more.
    by_key: dict[str, list[tuple[Any, Any]]] = {}
    for place in found:
        by_key.setdefault(str(place[1]), []).append(place)
    holder, key = rng.choice(found if rng.random() < 0.5 else by_key[rng.choice(sorted(by_key))])
    how = rng.choice(("raw", "raw", "twice", "moved", "renamed", "many", "coded"))
    if how == "moved":
        other, place = rng.choice(found)
        holder[key] = json.loads(json.dumps(other[place]))
    elif how == "renamed" and isinstance(holder, dict):
        holder[rng.choice((*TEXTS, key.upper(), key + " "))] = holder.pop(key)
    elif how == "many":
        holder[key] = [holder[key]] * rng.choice((2, 1000, 20_000))
    elif how == "coded":
        return json.dumps(value).encode(rng.choice(("utf-16", "utf-8-sig", "utf-32-le")))
    else:
        old = json.dumps(holder[key])
        holder[key] = _MARK
        text, mark = json.dumps(value), json.dumps(_MARK)
        if how == "twice" and isinstance(holder, dict):
            return text.replace(mark, f"{old}, {json.dumps(key)}: {raw(rng)}", 1).encode()
        return text.replace(mark, raw(rng), 1).encode()
    return json.dumps(value).encode()


def raw(rng: random.Random) -> str:
    """A value of JSON as text."""
    deep = rng.choice((50, 900, 100_000))
    return rng.choice(
        (
            *(
                "NaN",
                "-Infinity",
                "1e999",
                "-0",
                "0.1e-999",
                "9" * 4000,
                "9" * 5000,
                "1" + "0" * 300,
                "true",
                '"\\ud800"',
            ),
            "[" * deep + "]" * deep,
            '{"a":' * deep + "1" + "}" * deep,
            "[" + ",".join(["1" + "0" * 300] * 500) + "]",
        )
    )


def of_lines(content: bytes, rng: random.Random) -> bytes:
    """JSON lines, one of them changed."""
    lines = content.splitlines()
    at = rng.randrange(len(lines))
    lines[at] = of_json(lines[at], rng)
    return b"\n".join(lines) + b"\n"


# -- TOML, tables of text -----------------------------------------------------------------------------------------


def of_toml(content: bytes, rng: random.Random) -> bytes:
    """A line of TOML changed: its value, its key, or what it is."""
    lines = content.decode().splitlines()
    keys = [number for number, line in enumerate(lines) if "=" in line and not line.lstrip().startswith("#")]
    at = rng.choice(keys)
    key, _, old = lines[at].partition("=")
    deep = rng.choice((50, 900, 50_000))
    odd = (
        "nan",
        "-inf",
        "9" * 5000,
        "2099-01-01T00:00:00Z",
        '"' + "x" * 3000 + '"',
        "[]",
        "{}",
        "true",
        '"\\u001b[31m"',
    )
    odd += ("-1", "0", "1e308", str(2**63), str(-(2**64)), '"../../x"', '"/dev/zero"', '""', "[[], {}]", '"\\u0000"')
    odd += (
        "[" * deep + "]" * deep,
        "{a = " * deep + "1" + "}" * deep,
        '[{"" = 1}]',
        "'''\n'''",
        "1_000",
        "0x" + "f" * 40,
    )
    how = rng.choice(("value", "value", "value", "key", "drop", "twice", "table", "deep"))
    if how == "value":
        lines[at] = f"{key}= {rng.choice(odd)}"
    elif how == "key":
        lines[at] = rng.choice(("x", '"a.b"', "a.b.c", '""', '"\\u001b"')) + f" ={old}"
    elif how == "drop":
        del lines[at]
    elif how == "twice":
        lines.insert(at, lines[rng.choice(keys)])
    elif how == "table":
        lines.insert(at, rng.choice(("[task]", "[[variants]]", "[a.b.c]", "[[task]]", "[protocol.rounds]", "[]")))
    else:
        lines.insert(at, ".".join("a" * deep) + " = 1")
    return "\n".join(lines).encode()


def of_rows(content: bytes, rng: random.Random) -> bytes:
    """A cell of CSV or a line of text changed."""
    lines = content.decode().splitlines()
    at = rng.randrange(len(lines))
    cells = lines[at].split(",")
    place = rng.randrange(len(cells))
    odd = [
        *TEXTS[:-2],
        '"',
        '"' + "x" * 200_000,
        "x" * 200_000,
        "a,b,c,d",
        "9" * 5000,
        "-1",
        "1e5",
        "\r",
        "é",
        "\ufeff",
    ]
    cells[place] = rng.choice(odd)
    lines[at] = ",".join(cells)
    if rng.random() < 0.2:
        lines.insert(at, rng.choice((lines[0], "", ",", ",,,,", "\t")))
    return "\n".join(lines).encode("utf-8", "surrogatepass") + rng.choice((b"", b"\n", b"\xff\xfe", b"\0"))


# -- containers of tensors ----------------------------------------------------------------------------------------


def of_safetensors(content: bytes, rng: random.Random) -> bytes:
    """A .safetensors file with another header, whose length is most often right."""
    length = int.from_bytes(content[:8], "little")
    header, data = content[8 : 8 + length], content[8 + length :]
    how = rng.choice(("json", "json", "tensor", "tensor", "tensor", "length", "data"))
    if how == "length":
        other = rng.choice((*NUMBERS, length - 1, length + 1, len(content) - 8, len(content)))
        return other.to_bytes(8, "little") + header + data
    if how == "data":
        return content[:8] + header + (data[: rng.randrange(len(data))] if rng.random() < 0.5 else data * 2)
    if how == "json":
        header = of_json(header, rng)
    else:
        found = json.loads(header)
        entry = found[rng.choice([name for name in found if name != "__metadata__"])]
        size = entry["data_offsets"][1] - entry["data_offsets"][0]
        changes: dict[str, list[Any]] = {
            "dtype": ["F8_E4M3", "F4", "E8M0", "C64", "U64", "F64", "", 3, "BOOL", "I4", "BF16"],
            "shape": [
                [],
                [0],
                [size],
                [2**63, 0],
                [10**30] * 100,
                [2] * 65,
                [1] * 5000,
                [-1, -size],
                [1.0],
                ["1"],
                [True],
            ],
            "data_offsets": [
                [0, 0],
                [0, size],
                [size, 0],
                [-size, 0],
                [2**63, 2**63 + size],
                [0.0, 1e3],
                [0],
                [0, 1, 2],
            ],
        }
        key = rng.choice(list(changes))
        entry[key] = rng.choice(changes[key])
        header = json.dumps(found).encode()
    return len(header).to_bytes(8, "little") + header + data


def of_gguf(content: bytes, rng: random.Random) -> bytes:
    """A .gguf file with one field of its header changed: a count, a length, a type, a size, an offset, a text."""
    fields = list(_gguf_fields(content))
    at, size, what = rng.choice(fields)
    data = bytearray(content)
    if what == "text":
        text = rng.choice(TEXTS).encode("utf-8", "surrogatepass")
        data[at : at + size] = (text * (size // max(1, len(text)) + 1))[:size]
    elif what == "type":
        data[at : at + 4] = struct.pack("<I", rng.choice((*range(42), 255, 2**31, 2**32 - 1)))
    elif what == "value" and size in (4, 8) and rng.random() < 0.3:
        data[at : at + size] = struct.pack("<f" if size == 4 else "<d", rng.choice((float("nan"), float("inf"), -1e30)))
    else:
        old = int.from_bytes(data[at : at + size], "little")
        new = rng.choice((*NUMBERS, old + 1, max(0, old - 1), old * 2, old // 2, old + 32)) % 2 ** (8 * size)
        data[at : at + size] = new.to_bytes(size, "little")
    return bytes(data)


_GGUF_BYTES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}


def _gguf_fields(content: bytes) -> Iterator[tuple[int, int, str]]:
    """(where, bytes, what) of the fields of a header that is whole."""
    at = 0

    def take(size: int, what: str) -> tuple[int, int, str]:
        nonlocal at
        at += size
        return at - size, size, what

    def number(place: int, size: int) -> int:
        return int.from_bytes(content[place : place + size], "little")

    def text() -> Iterator[tuple[int, int, str]]:
        yield take(8, "length")
        if size := number(at - 8, 8):
            yield take(size, "text")

    yield take(4, "magic")
    yield take(4, "version")
    yield take(8, "count")
    yield take(8, "count")
    tensors, keys = number(8, 8), number(16, 8)
    for _ in range(keys):
        yield from text()
        yield take(4, "type")
        kind = number(at - 4, 4)
        count = 1
        if kind == 9:
            yield take(4, "type")
            yield take(8, "count")
            kind, count = number(at - 12, 4), number(at - 8, 8)
        for _ in range(count):
            if kind == 8:
                yield from text()
            else:
                yield take(_GGUF_BYTES[kind], "value")
    for _ in range(tensors):
        yield from text()
        yield take(4, "count")
        for _ in range(number(at - 4, 4)):
            yield take(8, "size")
        yield take(4, "type")
        yield take(8, "offset")


def of_npy(content: bytes, rng: random.Random) -> bytes:
    """A .npy file with another header, or a pickle in the place of its numbers."""
    length = int.from_bytes(content[8:10], "little")
    data = content[10 + length :]
    shape = (
        "(1, 8, 8, 3)",
        "()",
        "(0,)",
        f"({2**62},)",
        f"({2**31}, {2**31}, 4)",
        "(-1,)",
        "(1,)*9",
        "(" + "1," * 70 + ")",
    )
    shape += ("(True,)", "('a',)", "[1, 8, 8, 3]", f"({10**40}, 0)", "(" * 200 + ")" * 200, "__import__('os')")
    kinds = (
        "'<f4'",
        "'|O'",
        "'<f8'",
        "'<U100'",
        "'|V8'",
        "'|S0'",
        "[('a', '<f4')]",
        "[('a', '|O')]",
        "'<M8[s]'",
        "'x'",
        "None",
    )
    kinds += ("'>f4'", "'<c16'", "'<f2'", "[" * 90 + "]" * 90, "{'names': ['a'], 'formats': ['<f4'], 'offsets': [-4]}")

    def either(usual: Any, odd: Any) -> Any:
        """Most often what is usual, so that what reads it comes as far as the one thing that is not."""
        return usual if rng.random() < 0.6 else rng.choice(odd)

    kind, order, sizes = either("'<f4'", kinds), either("False", ("True", "2", "None")), either("(1, 8, 8, 3)", shape)
    header = f"{{'descr': {kind}, 'fortran_order': {order}, 'shape': {sizes}, }}\n".encode()
    data = either(data, (PICKLE, b"", data * 3))
    return content[:6] + either(b"\1\0" + struct.pack("<H", len(header)), _sized(header)) + header + data


def _sized(header: bytes) -> list[bytes]:
    """Versions and lengths of a header, right ones and wrong ones."""
    size = struct.pack("<I", len(header))
    return [b"\2\0" + size, b"\3\0" + size, b"\1\0" + size, b"\2\0" + size[:2], b"\1\0\0\0", b"\1\0\xff\xff"]


def in_zip(of_record: Change, *, at: Callable[[str], bool] = lambda name: True) -> Change:
    """A zip file changed: records renamed, doubled, packed, left out, or one of those `at` a name by `of_record`."""

    def change(content: bytes, rng: random.Random) -> bytes:
        with zipfile.ZipFile(io.BytesIO(content)) as old:
            records = [(name, old.read(name)) for name in old.namelist()]
        packed = zipfile.ZIP_STORED
        chosen = [number for number, (name, _) in enumerate(records) if at(name)]
        number = rng.choice(chosen)
        name, record = records[number]
        how = rng.choice(("record", "record", "record", "pickle", "name", "twice", "gone", "packed", "bomb", "more"))
        if how == "record":
            with contextlib.suppress(ValueError, LookupError, RecursionError):
                records[number] = name, of_record(record, rng)
        elif how == "pickle":
            records[number] = name, PICKLE
        elif how == "name":
            folder = name.partition("/")[0]
            records[number] = (
                rng.choice(("../x", "/x", f"{folder}/../../{RAN}", "x" * 60_000, name.upper(), "\x1b")),
                record,
            )
        elif how == "twice":
            records.insert(rng.randrange(len(records)), (name, rng.choice((PICKLE, b"", record))))
        elif how == "gone":
            del records[number]
        elif how == "packed":
            packed = zipfile.ZIP_DEFLATED
        elif how == "bomb":
            records[number], packed = (name, bytes(1 << 27)), zipfile.ZIP_DEFLATED
        else:
            records.append((name.rpartition("/")[0] + "/data.pkl", PICKLE))
        with io.BytesIO() as stream:
            import warnings

            with warnings.catch_warnings(), zipfile.ZipFile(stream, "w", packed, compresslevel=1) as new:
                warnings.simplefilter("ignore")  # of two records with one name
                for name, record in records:
                    new.writestr(name, record)
            return stream.getvalue()

    return change
