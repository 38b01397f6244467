"""Profiles are read strictly: what they extend, where their paths lead, and what is said of a wrong key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qprof.errors import DataError, ProfileError
from qprof.measure.command_line import profile_for, shipped_profiles
from qprof.measure.models import model_path, runtime_of
from qprof.measure.profile import Profile, resolved, validate, validate_recorded
from qprof.measure.profile_file import apply_overrides, load_profile
from qprof.runtimes import hub, registry

MINIMAL = {"name": "m", "model": {"path": "/m.tflite"}}
SHAPES = {"kind": "detection", "dataset": "shapes"}
PASSAGES = {"kind": "lastword", "dataset": "passages"}
DEFAULT_VARIANTS = ["float32", "float16", "int8-dynamic", "int8"]
DEFAULT_LANGUAGE_VARIANTS = ["bfloat16", "gptq-8bit", "gptq-4bit", "gptq-2bit"]


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def names(profile: Profile) -> list[str]:
    return [section.name for section in profile.variants]


def refusal(data: dict[str, Any]) -> str:
    with pytest.raises(ProfileError) as caught:
        validate({**MINIMAL, **data}, source="p.toml")
    text = str(caught.value)
    assert text.startswith("p.toml: ")
    assert "\n" not in text
    return text


# -- extends ------------------------------------------------------------------------------------------------------


def test_extends_merges_tables_and_replaces_lists(tmp_path: Path) -> None:
    write(
        tmp_path / "base.toml",
        'name = "base"\nvariants = ["float32", "int8"]\n[model]\npath = "m.tflite"\nbatch = 2\n'
        "[protocol]\nrounds = 3\nthreads = 2\n",
    )
    top = write(
        tmp_path / "top.toml",
        'extends = "base.toml"\nname = "top"\nvariants = ["float16"]\n[protocol]\nrounds = 7\n',
    )
    profile = load_profile(top)
    assert profile.name == "top"
    assert names(profile) == ["float16"]
    assert (profile.protocol.rounds, profile.protocol.threads) == (7, 2)
    assert (profile.model.path, profile.model.batch) == (str(tmp_path / "m.tflite"), 2)


def test_extends_over_several_files_in_several_folders(tmp_path: Path) -> None:
    write(tmp_path / "a/base.toml", '[model]\npath = "a.tflite"\n[task]\ninputs = ["x.npy", "/abs/y.npy"]\n')
    write(tmp_path / "b/middle.toml", 'extends = "../a/base.toml"\nvariants = [{name = "v", file = "b.tflite"}]\n')
    profile = load_profile(write(tmp_path / "top.toml", 'extends = "b/middle.toml"\nname = "top"\n'))
    assert profile.model.path == str(tmp_path / "a/a.tflite")
    assert profile.task.inputs == [str(tmp_path / "a/x.npy"), "/abs/y.npy"]
    assert profile.variants[0].file == str(tmp_path / "b/b.tflite")


def test_extends_in_a_circle(tmp_path: Path) -> None:
    write(tmp_path / "a.toml", 'extends = "b.toml"\n')
    write(tmp_path / "b.toml", 'extends = "a.toml"\n')
    with pytest.raises(ProfileError, match=r"circle \(a.toml -> b.toml -> a.toml\)"):
        load_profile(tmp_path / "a.toml")
    with pytest.raises(ProfileError, match=r"circle \(me.toml -> me.toml\)"):
        load_profile(write(tmp_path / "me.toml", 'extends = "me.toml"\n'))


def test_missing_profile_names_the_nearest_and_who_wants_it(tmp_path: Path) -> None:
    write(tmp_path / "yolox.toml", "")
    with pytest.raises(ProfileError, match=r"yolo.toml: no such profile; did you mean .*yolox.toml\?"):
        load_profile(tmp_path / "yolo.toml")
    top = write(tmp_path / "top.toml", 'extends = "nowhere/base.toml"\n')
    with pytest.raises(ProfileError, match=r"nowhere/base.toml: no such profile, which .*top.toml extends"):
        load_profile(top)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"name = ", "not valid TOML"),
        (b"name = 'a'\nname = 'b'", "not valid TOML"),
        (b"\xff\xfe", "cannot be read"),
        (b"extends = 3", "extends must be the path of another profile"),
    ],
)
def test_unreadable_profile(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "p.toml"
    path.write_bytes(content)
    with pytest.raises(ProfileError, match=says) as caught:
        load_profile(path)
    assert str(path) in str(caught.value)


def test_folder_as_profile(tmp_path: Path) -> None:
    (tmp_path / "p.toml").mkdir()
    with pytest.raises(ProfileError, match="cannot be read"):
        load_profile(tmp_path / "p.toml")


def test_wrong_key_is_blamed_on_the_file_that_writes_it(tmp_path: Path) -> None:
    base = write(tmp_path / "base.toml", 'name = "b"\n[protocol]\nround = 3\n')
    top = write(tmp_path / "top.toml", 'extends = "base.toml"\n')
    with pytest.raises(ProfileError) as caught:
        load_profile(top)
    assert str(caught.value) == f"{base}: unknown key protocol.round; did you mean protocol.rounds?"


# -- strict keys and values ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"modle": {}}, "unknown key modle; did you mean model?"),
        ({"model": {"pth": "x"}}, "unknown key model.pth; did you mean model.path?"),
        ({"protocol": {"round": 3}}, "unknown key protocol.round; did you mean protocol.rounds?"),
        ({"task": {"sampels": 3}}, "unknown key task.sampels; did you mean task.samples?"),
        ({"task": {**SHAPES, "anotations": "x"}}, "unknown key task.anotations; did you mean task.annotations?"),
        ({"task": {**SHAPES, "head": {"knd": "yolox"}}}, "unknown key task.head.knd; did you mean task.head.kind?"),
        (
            {"task": {**SHAPES, "preprocess": {"colour": "bgr"}}},
            "unknown key task.preprocess.colour; did you mean task.preprocess.color?",
        ),
        ({"task": {**SHAPES, "categories": {"rul": "coco80"}}}, "did you mean task.categories.rule?"),
        (
            {"variants": ["float32", {"name": "int8", "methd": "int8"}]},
            "unknown key variants[1].methd; did you mean variants[1].method?",
        ),
        ({"protocol": {"qqqq": 1}}, "unknown key protocol.qqqq; known here: alone, block_ms, block_samples"),
    ],
)
def test_unknown_key_names_the_nearest(data: dict[str, Any], says: str) -> None:
    assert says in refusal(data)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"name": 3}, "name: Expected `str`, got `int`"),
        ({"name": ""}, "name: Expected"),
        ({"name": "../up"}, "name: a name begins with a letter or digit"),
        ({"name": "a\n"}, "name: a name begins with"),
        ({"model": "m.tflite"}, "model: Expected `table`, got `str`"),
        ({"variants": "float32"}, "variants: Expected `list`, got `str`"),
        ({"variants": ["float32", 3]}, "variants[1]: Expected `str | table`, got `int`"),
        ({"variants": ["a/../b"]}, "variants[0].name: a name begins with"),
        ({"variants": [{"name": "../../x"}]}, "variants[0].name: a name begins with"),
        ({"variants": [{"file": "x"}]}, "variants[0].name is missing; add it"),
        ({"variants": []}, "variants is empty"),
        ({"variants": ["int8", {"name": "int8"}]}, "two variants are named 'int8'"),
        (
            {"variants": [{"name": "int8", "delegate": "gpu"}]},
            "variants[0].delegate: Invalid enum value 'gpu'; allowed: 'xnnpack', 'none'",
        ),
        ({"variants": [{"name": "int8", "threads": 0}]}, "variants[0].threads: Expected `int` >= 1"),
        ({"task": {"kind": "detect"}}, "task.kind: no task is called 'detect'; did you mean detection?"),
        (
            {"task": {"kind": "zzz"}},
            "task.kind: no task is called 'zzz'; known here: classification, detection, lastword, latency",
        ),
        ({"task": {"kind": 3}}, "task.kind: Expected `str`, got `int`"),
        ({"task": {"samples": 0}}, "task.samples: Expected `int` >= 1"),
        ({"task": ["latency"]}, "task: Expected `table`, got `list`"),
        ({"variants": [{"name": "a"}]}, "variants[0]: there is no method 'a' for a LiteRT model; known here: "),
        ({"variants": ["int8-dynamc"]}, "variants[0]: there is no method 'int8-dynamc' for a LiteRT model; did you"),
        ({"task": {"kind": "detection"}}, "needs annotations and images"),
        ({"task": {"kind": "detection", "annotations": "a"}}, "needs annotations and images"),
        ({"task": {**SHAPES, "limit": 0}}, "task.limit: Expected `int` >= 1"),
        ({"task": {**SHAPES, "head": {"kind": "yolo"}}}, "yolo"),
        ({"task": {**SHAPES, "head": {"clip": "yes"}}}, "task.head.clip: Expected `bool`, got `str`"),
        ({"protocol": {"rounds": 2.5}}, "protocol.rounds: Expected `int`, got `float`"),
        ({"protocol": {"rounds": True}}, "protocol.rounds: Expected `int`, got `bool`"),
        ({"protocol": {"rounds": 0}}, "protocol.rounds: Expected `int` >= 1"),
        ({"protocol": {"seed": -1}}, "protocol.seed: Expected `int` >= 0"),
        ({"protocol": {"block_ms": float("inf")}}, "protocol.block_ms: Expected"),
        ({"protocol": {"block_ms": float("nan")}}, "protocol.block_ms: Expected"),
        ({"protocol": {"warmup_max_s": -1.0}}, "protocol.warmup_max_s: Expected"),
        ({"protocol": {"timeout_s": 0}}, "protocol.timeout_s: Expected"),
        ({"protocol": {"timeout_s": 1e300}}, "protocol.timeout_s: Expected"),
        ({"model": {"input_shapes": {"x": [1, 0]}}}, "Expected `int` >= 1"),
        ({"model": {}}, "variant 'float32' needs model.path or a file of its own"),
    ],
)
def test_wrong_value_names_the_key(data: dict[str, Any], says: str) -> None:
    assert says in refusal(data)


# -- keys of another runtime, method or task ----------------------------------------------------------------------

LM = {"model": {"path": "hf://a/b"}, "task": PASSAGES}


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"variants": [{"name": "int8-dynamic", "bits": 4}]}, "unknown key variants[0].bits; "),
        ({"variants": ["float32", {"name": "q", "method": "int8-dynamic", "bits": 4}]}, "unknown key variants[1].bits"),
        ({"variants": [{"name": "int8-dynamic", "library": "autogptq"}]}, "unknown key variants[0].library; "),
        ({"variants": [{"name": "int8-dynamic", "io": "int8"}]}, "unknown key variants[0].io; "),
        ({"variants": [{"name": "float32", "ops": ["ADD"]}]}, "unknown key variants[0].ops; "),
        ({"variants": [{"name": "a", "file": "/a.tflite", "method": "int8"}]}, "unknown key variants[0].method; "),
        ({"variants": [{"name": "a", "file": "/a.tflite", "bits": 4}]}, "unknown key variants[0].bits; "),
        ({"variants": ["gptq-4bit"]}, "variants[0]: there is no method 'gptq-4bit' for a LiteRT model; "),
        ({**LM, "variants": ["int8-dynamic"]}, "variants[0]: there is no method 'int8-dynamic' for a language model; "),
        ({**LM, "variants": [{"name": "gptq-4bit", "delegate": "none"}]}, "unknown key variants[0].delegate; "),
        ({**LM, "variants": [{"name": "gptq-4bit", "io": "int8"}]}, "unknown key variants[0].io; "),
        ({**LM, "variants": [{"name": "bfloat16", "bits": 4}]}, "unknown key variants[0].bits; "),
        (
            {**LM, "variants": [{"name": "gptq-4bit", "library": "autogptq", "kernel": "torch"}]},
            "unknown key variants[0].kernel; ",
        ),
        ({**LM, "variants": [{"name": "a", "file": "hf://a/c", "bits": 4}]}, "unknown key variants[0].bits; "),
        ({**LM, "model": {"path": "hf://a/b", "input_shapes": {}}}, "unknown key model.input_shapes; known here: path"),
        ({**LM, "model": {"path": "hf://a/b", "batch": 2}}, "unknown key model.batch; "),
        ({"task": {"annotations": "/a.json"}}, "unknown key task.annotations; "),
        ({"task": {"kind": "latency", "annotations": "/a.json"}}, "unknown key task.annotations; "),
        ({"task": {"kind": "latency", "prompt_tokens": 3}}, "unknown key task.prompt_tokens; "),
        ({"task": {**PASSAGES, "head": {"kind": "yolox"}}}, "unknown key task.head; "),
        ({"task": {**PASSAGES, "preprocess": {"color": "rgb"}}}, "unknown key task.preprocess; "),
        ({"task": {**PASSAGES, "images": "/i"}}, "unknown key task.images; "),
        ({"task": {**SHAPES, "inputs": ["/x.npy"]}}, "unknown key task.inputs; "),
        ({"task": {**SHAPES, "bos": "auto"}}, "unknown key task.bos; "),
        ({"task": {**SHAPES, "dataset": "passages"}}, "task.dataset: Invalid enum value 'passages'; allowed: '', 'sh"),
        ({"protocol": {"device": "cuda"}}, "protocol.device: 'cuda' is not what litert runs on; cpu"),
        ({"protocol": {"device": "cuda:1"}}, "protocol.device: 'cuda' is not what litert runs on; cpu"),
        ({**LM, "protocol": {"delegate": "none"}}, "protocol.delegate: torch_lm hands its ops to no delegate; leave"),
    ],
)
def test_keys_that_are_for_others_are_refused(data: dict[str, Any], says: str) -> None:
    assert says in refusal(data)


def test_keys_go_by_the_runtime_of_a_variants_own_file() -> None:
    listed = [
        {"name": "a", "file": "hf://a/c", "kernel": "torch"},
        {"name": "b", "file": "/b.tflite", "delegate": "none"},
    ]
    profile = validate({**MINIMAL, **LM, "variants": listed}, "p")
    assert [type(section).__name__ for section in profile.variants] == ["CheckpointVariant", "LiteRTFile"]
    assert runtime_of("hf://a/c", "text").name == "torch_lm"


def test_a_variants_file_that_is_not_there_is_taken_for_one_of_the_models_runtime() -> None:
    task = {"kind": "latency"}
    model = {"path": "hf://a/b"}
    listed = [{"name": "a", "file": "/no/such/folder", "batch": 2}]
    profile = validate({**MINIMAL, "task": task, "model": model, "variants": listed}, "p")
    assert profile.variants[0].batch == 2  # type: ignore[attr-defined]


def test_what_one_runtime_alone_takes_is_taken_there() -> None:
    lm = validate({**MINIMAL, **LM, "protocol": {"device": "cuda:1"}}, "p")
    assert (lm.protocol.device, names(lm)) == ("cuda:1", DEFAULT_LANGUAGE_VARIANTS)
    plain = validate({**MINIMAL, "protocol": {"delegate": "none"}}, "p")
    assert (plain.protocol.delegate, names(plain)) == ("none", DEFAULT_VARIANTS)
    assert validate({**MINIMAL, **LM, "protocol": {"delegate": "xnnpack"}}, "p").protocol.delegate == "xnnpack"


def test_the_runtime_goes_by_the_models_looks_and_then_by_what_the_task_gives(tmp_path: Path) -> None:
    write(tmp_path / "lm/config.json", '{"architectures": ["LlamaForCausalLM"]}')
    write(tmp_path / "saved/saved_model.pb", "")
    for text, gives, name in [
        ("/nowhere/m.tflite", "text", "litert"),
        (str(tmp_path / "saved"), "text", "litert"),
        (str(tmp_path / "lm"), "tensors", "torch_lm"),
        ("embedded:passages_lm", "tensors", "torch_lm"),
        ("org/name", "tensors", "torch_lm"),
        ("", "text", "torch_lm"),
        ("", "tensors", "litert"),
        ("/nowhere", "text", "torch_lm"),
        ("x" * 300, "tensors", "litert"),
        ("a\0b", "tensors", "litert"),
    ]:
        assert runtime_of(text, gives).name == name, text
    assert registry.accepting(Path("x" * 300)) is None


def test_a_wrong_key_for_the_inherited_kind_is_blamed_on_the_file_that_writes_it(tmp_path: Path) -> None:
    write(tmp_path / "base.toml", 'name = "b"\n[model]\npath = "m.tflite"\n[task]\nkind = "latency"\n')
    for text, key in [("[task]\nlimit = 3\n", "task.limit"), ("[model]\nbatsh = 3\n", "model.batsh")]:
        top = write(tmp_path / "top.toml", f'extends = "base.toml"\n{text}')
        with pytest.raises(ProfileError) as caught:
            load_profile(top)
        assert str(caught.value).startswith(f"{top}: unknown key {key}; ")
    top = write(tmp_path / "top.toml", 'extends = "base.toml"\nvariants = [{name = "int8-dynamic", bits = 4}]\n')
    with pytest.raises(ProfileError, match=r"top\.toml: unknown key variants\[0\]\.bits"):
        load_profile(top)


def test_a_task_of_another_kind_begins_anew(tmp_path: Path) -> None:
    base = write(
        tmp_path / "base.toml",
        'name = "b"\n[model]\npath = "m.tflite"\n[task]\nkind = "detection"\nannotations = "a.json"\nimages = "i"\n'
        'limit = 7\ncalibration_samples = 3\n[task.head]\nkind = "yolox"\n',
    )
    profile = load_profile(base, ["task.kind=latency"])
    assert profile.task == validate(MINIMAL, "p").task
    assert (
        load_profile(base, ["task.kind=latency", "task.samples=2"]).task
        == validate({**MINIMAL, "task": {"samples": 2}}, "p").task
    )
    assert load_profile(base, ["task.kind=detection"]).task == load_profile(base).task
    top = write(tmp_path / "top.toml", 'extends = "base.toml"\n[task]\nkind = "latency"\nsamples = 2\n')
    assert resolved(load_profile(top)).task["samples"] == 2
    assert "annotations" not in resolved(load_profile(top)).task
    again = write(tmp_path / "again.toml", 'extends = "base.toml"\n[task]\nkind = "detection"\nlimit = 9\n')
    task = resolved(load_profile(again)).task
    assert (task["limit"], task["calibration_samples"], task["head"]["kind"]) == (9, 3, "yolox")


def test_what_a_base_says_of_a_task_of_no_kind_is_kept(tmp_path: Path) -> None:
    write(tmp_path / "base.toml", 'name = "b"\n[model]\npath = "m.tflite"\n[task]\ncalibration_samples = 3\n')
    top = write(tmp_path / "top.toml", 'extends = "base.toml"\n[task]\nkind = "detection"\ndataset = "shapes"\n')
    assert resolved(load_profile(top)).task["calibration_samples"] == 3


def test_a_base_may_leave_kind_and_model_to_what_extends_it(tmp_path: Path) -> None:
    folder = tmp_path / "bases"
    folder.mkdir()
    write(folder / "lm.toml", '[[variants]]\nname = "gptq-4bit"\ngroup_size = 32\n')
    write(folder / "coco.toml", '[task]\nannotations = "a.json"\nimages = "i"\n')
    lm = write(
        tmp_path / "lm.toml",
        'extends = "bases/lm.toml"\nname = "p"\n[model]\npath = "hf://a/b"\n[task]\nkind = "latency"\n',
    )
    detector = write(
        tmp_path / "d.toml",
        'extends = "bases/coco.toml"\nname = "p"\n[model]\npath = "m.tflite"\n[task]\nkind = "detection"\n',
    )
    assert [type(v).__name__ for v in load_profile(lm).variants] == ["GPTQVariant"]
    task = load_profile(detector).task
    assert task.annotations == str(folder / "a.json")  # type: ignore[attr-defined]


def test_a_wrong_key_of_such_a_base_is_its_own(tmp_path: Path) -> None:
    base = write(tmp_path / "base.toml", '[task]\nanotations = "a.json"\n')
    over = write(tmp_path / "p.toml", 'extends = "base.toml"\nname = "p"\n[task]\nkind = "detection"\n')
    with pytest.raises(ProfileError, match=r"base\.toml: unknown key task\.anotations; did you mean task\.annotations"):
        load_profile(over)
    assert base.exists()


@pytest.mark.parametrize("order", [1, -1])
def test_overrides_may_stand_in_any_order(order: int) -> None:
    texts = ["task.kind=detection", "task.dataset=shapes"][::order]
    data = apply_overrides({"name": "p", "task": {"kind": "latency"}}, texts)
    assert data["task"] == {"kind": "detection", "dataset": "shapes"}


def test_name_is_required() -> None:
    with pytest.raises(ProfileError, match=r"^p.toml: name is missing; add it$"):
        validate({"model": {"path": "/m"}}, source="p.toml")


def test_variants_without_model_need_files() -> None:
    profile = validate({"name": "m", "variants": [{"name": "a", "file": "/a"}]}, source="p")
    assert profile.model.path == ""
    with pytest.raises(ProfileError, match=r"variant 'b' needs model\.path"):
        validate({"name": "m", "variants": [{"name": "a", "file": "/a"}, "b"]}, source="p")


JSON_LIKE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
KEYS = st.sampled_from(["name", "model", "variants", "task", "protocol", "description", "x"])


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)  # a busy machine makes slow draws, no wrong ones
@given(st.dictionaries(KEYS, JSON_LIKE, max_size=4))
def test_whatever_is_written_gives_a_profile_or_one_line(data: dict[str, Any]) -> None:
    try:
        assert validate({**MINIMAL, **data}, source="p").name
    except ProfileError as error:
        assert str(error).startswith("p: ")
        assert len(str(error)) > 5


# -- paths --------------------------------------------------------------------------------------------------------


def test_paths_are_those_of_the_file_that_writes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.setenv("DATA", "/data")
    path = write(
        tmp_path / "p.toml",
        'name = "p"\n[model]\npath = "../m.tflite"\n[task]\nkind = "detection"\nannotations = "$DATA/a.json"\n'
        'images = "~/images"\ncalibration_images = "${DATA}/c"\n[task.head]\nanchors = "sub/anchors.npy"\n',
    )
    monkeypatch.chdir("/")
    profile = load_profile(path)
    assert profile.model.path == str(tmp_path.parent / "m.tflite")
    assert profile.task.annotations == "/data/a.json"
    assert profile.task.images == "/home/someone/images"
    assert profile.task.calibration_images == "/data/c"
    assert profile.task.calibration_annotations == ""
    assert profile.task.head.anchors == str(tmp_path / "sub/anchors.npy")


def test_path_of_an_unset_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MODELS", raising=False)
    path = write(tmp_path / "p.toml", 'name = "p"\n[model]\npath = "$MODELS/m.tflite"\n')
    with pytest.raises(ProfileError, match=r"p.toml: \$MODELS/m.tflite: set the environment variable"):
        load_profile(path)


def test_path_of_an_unknown_user(tmp_path: Path) -> None:
    path = write(tmp_path / "p.toml", 'name = "p"\n[model]\npath = "~no-such-user/m.tflite"\n')
    with pytest.raises(ProfileError, match="is not a path"):
        load_profile(path)


def test_embedded_models(tmp_path: Path) -> None:
    path = write(tmp_path / "p.toml", 'name = "p"\n[model]\npath = "embedded:shapes_detector.tflite"\n')
    profile = load_profile(path)
    assert profile.model.path == "embedded:shapes_detector.tflite"
    assert model_path(profile.model.path).is_file()
    assert model_path("/x/m.tflite") == Path("/x/m.tflite")
    for name in ("embedded:other.tflite", "embedded:../errors.py", "embedded:"):
        with pytest.raises((ProfileError, DataError)):
            model_path(name)


# -- overrides ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("protocol.rounds=20", {"protocol": {"rounds": 20}}),
        ("protocol.block_ms=2.5", {"protocol": {"block_ms": 2.5}}),
        ("protocol.profiled=false", {"protocol": {"profiled": False}}),
        ("task.kind=latency", {"task": {"kind": "latency"}}),
        ('name="a b"', {"name": "a b"}),
        ("name=", {"name": ""}),
        ("description=a=b", {"description": "a=b"}),
        ('variants=["float32", "int8"]', {"variants": ["float32", "int8"]}),
        (" protocol.seed = 3", {"protocol": {"seed": 3}}),
    ],
)
def test_override(text: str, expected: dict[str, Any]) -> None:
    data: dict[str, Any] = {}
    assert apply_overrides(data, [text]) == expected
    assert data == {}


def test_overrides_keep_what_stands_beside_them_and_the_last_wins() -> None:
    data: dict[str, Any] = {"protocol": {"rounds": 3, "threads": 2}}
    found = apply_overrides(data, ["protocol.rounds=4", "protocol.rounds=5"])
    assert found == {"protocol": {"rounds": 5, "threads": 2}}
    assert data == {"protocol": {"rounds": 3, "threads": 2}}


def test_paths_of_overrides_are_those_of_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/someone")
    data = apply_overrides(
        {}, ["model.path=m.tflite", 'task.inputs=["a.npy"]', 'variants=[{name="v", file="v.tflite"}]']
    )
    assert data["model"]["path"] == str(tmp_path / "m.tflite")
    assert data["task"]["inputs"] == [str(tmp_path / "a.npy")]
    assert data["variants"][0]["file"] == str(tmp_path / "v.tflite")
    data = apply_overrides(data, ["task.kind=detection", 'task.head={anchors="b"}', "task.images=$HOME/i"])
    assert data["task"]["head"]["anchors"] == str(tmp_path / "b")
    assert data["task"]["images"] == "/home/someone/i"


@pytest.mark.parametrize("text", ["rounds", "=3", "name.x=3"])
def test_bad_override(text: str) -> None:
    with pytest.raises(ProfileError, match="--set"):
        apply_overrides({"name": "a"}, [text])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("task.annotations=x", "--set task.annotations: unknown key task.annotations; "),
        ("task.kind=latencie", "--set task.kind: task.kind: no task is called 'latencie'; did you mean latency?"),
        ('variants=[{name="int8-dynamic", bits=4}]', "--set variants: unknown key variants[0].bits; "),
        ("protocol.device=cuda", "protocol.device: 'cuda' is not what litert runs on"),
        ("task.samples=0", "task.samples: Expected `int` >= 1"),
        ("model=3", "model: Expected `table`, got `int`"),
    ],
)
def test_override_that_does_not_fit_is_named(tmp_path: Path, text: str, says: str) -> None:
    path = write(tmp_path / "p.toml", 'name = "p"\n[model]\npath = "m.tflite"\n')
    with pytest.raises(ProfileError) as caught:
        load_profile(path, [text])
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("own", "overrides", "expected"),
    [
        ("rounds = 8", ["protocol.budget_s=60"], 48),
        ("rounds = 8", ["protocol.margin=0.01"], 48),
        ("rounds = 8", ["protocol.budget_s=60", "protocol.rounds=10"], 10),
        ("rounds = 100", ["protocol.budget_s=60"], 100),
        ("rounds = 8\nmargin = 0.05", ["protocol.budget_s=60"], 8),
        ("rounds = 8", ["protocol.threads=1"], 8),
    ],
)
def test_a_budget_lifts_a_profiles_number_of_rounds(
    tmp_path: Path, own: str, overrides: list[str], expected: int
) -> None:
    """It was meant for a run without looks; what is said on purpose stays."""
    (tmp_path / "p.toml").write_text(
        f'name = "p"\nvariants = ["float32"]\nmodel.path = "m.tflite"\n[protocol]\n{own}\n'
    )
    assert load_profile(tmp_path / "p.toml", overrides).protocol.rounds == expected


@pytest.mark.parametrize("name", ["quickstart", "quickstart-lm"])
def test_the_quickstart_can_take_a_budget(name: str) -> None:
    profile = profile_for([name], overrides=["protocol.budget_s=60"])
    assert (profile.protocol.adaptive, profile.protocol.rounds) == (True, 48)


def test_override_of_an_unknown_key(tmp_path: Path) -> None:
    path = write(tmp_path / "p.toml", 'name = "p"\n[model]\npath = "m"\n')
    with pytest.raises(ProfileError, match=r"unknown key protocol.round; did you mean protocol.rounds\?"):
        load_profile(path, ["protocol.round=3"])


# -- shipped and implied profiles ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", shipped_profiles())
def test_shipped_profile_is_valid_unless_it_is_a_base(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COCO", "/coco")
    monkeypatch.setenv("MODELS", "/models")
    monkeypatch.setenv("CIFAR10", "/cifar10")
    monkeypatch.setenv("IMAGENET", "/imagenet")
    if name in ("coco-val2017", "imagenet-val", "lambada"):  # bases: they name no model
        with pytest.raises(ProfileError, match="name is missing"):
            profile_for([name])
        return
    profile = profile_for([name])
    assert profile.name == name
    assert validate_recorded(resolved(profile), "again") == profile
    assert resolved(validate_recorded(resolved(profile), "again")) == resolved(profile)


def test_labelled_images_of_a_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.tflite", "b.tflite"):
        (tmp_path / name).touch()
    task = resolved(profile_for(["a.tflite", "b.tflite"], images="val", labels="names.txt")).task
    assert task["kind"] == "classification" and task["calibration_samples"] == 0  # nothing is made
    assert (task["data"], task["labels"], task["truth"]) == (str(tmp_path / "val"), str(tmp_path / "names.txt"), "")
    made = resolved(profile_for(["a.tflite"], variants=["float32", "int8"], images="hf://datasets/a/b")).task
    assert made["data"] == "hf://datasets/a/b" and made["calibration_samples"] == 100
    set_anew = profile_for(["a.tflite"], images="val", overrides=["task.limit=7", "task.preprocess.crop=0.5"])
    assert resolved(set_anew).task["limit"] == 7 and resolved(set_anew).task["preprocess"]["crop"] == 0.5
    with pytest.raises(ProfileError, match=r"unknown key task\.crop"):
        profile_for(["a.tflite"], images="val", overrides=["task.crop=1"])


def test_there_are_shipped_profiles() -> None:
    assert {"quickstart", "quickstart-lm", "smollm-135m", "yolox-nano", "ssd-mobilenet-v1", "coco-val2017"} <= set(
        shipped_profiles()
    )


def test_resolved_spells_out_every_default_and_round_trips() -> None:
    plain = resolved(validate(MINIMAL, "p"))
    assert [variant["name"] for variant in plain.variants] == DEFAULT_VARIANTS
    quantized = {
        "method": "",
        "threads": None,
        "delegate": None,
        "before_ops": "",
        "ops": [],
        "skip_ops": [],
        "skip_layers": [],
        "input_shapes": {},
    }
    unquantized = {key: value for key, value in quantized.items() if key not in ("ops", "skip_ops", "skip_layers")}
    assert plain.variants[0] == {"name": "float32", **unquantized}
    assert plain.variants[2] == {"name": "int8-dynamic", **quantized}
    assert plain.variants[3] == {"name": "int8", **quantized, "io": "float", "ranges": "moving-average"}
    assert plain.model == {"path": "/m.tflite", "input_shapes": {}, "signature": "", "batch": 1}
    given = {"inputs": [], "random": {}, "made_like": {}, "calibration_inputs": []}
    assert plain.task == {"kind": "latency", **given, "samples": 8, "calibration_samples": 100, "outputs_are": "auto"}
    assert plain.protocol.rounds == 12
    assert resolved(validate_recorded(plain, "again")) == plain


def test_resolved_spells_out_every_default_of_a_language_model() -> None:
    task = {"kind": "lastword", "dataset": "passages"}
    variants = ["bfloat16", "gptq-4bit", {"name": "a", "method": "gptq-4bit", "library": "autogptq"}]
    plain = resolved(validate({"name": "m", "model": {"path": "hf://a/b"}, "task": task, "variants": variants}, "p"))
    both = {"method": "", "threads": None, "dtype": "", "batch": None}
    quantized = {**both, "bits": None, "group_size": None, "desc_act": False, "sym": True}
    assert plain.variants == [
        {"name": "bfloat16", **both},
        {"name": "gptq-4bit", **quantized, "skip_layers": [], "kernel": "", "library": "gptqmodel"},
        {"name": "a", **quantized, "method": "gptq-4bit", "library": "autogptq"},
    ]
    assert plain.model == {"path": "hf://a/b"}
    assert (plain.task["dataset"], plain.task["scoring"], plain.task["batch"]) == ("passages", "lambada_openai", 1)
    assert not {"head", "annotations", "inputs"} & plain.task.keys()
    assert resolved(validate_recorded(plain, "again")) == plain


def test_resolved_spells_out_every_default_of_a_detector() -> None:
    plain = resolved(validate({**MINIMAL, "task": {"kind": "detection", "dataset": "shapes"}}, "p"))
    assert plain.task["head"]["kind"] == "auto"
    assert plain.task["preprocess"]["resize"]
    assert plain.task["categories"]["rule"]
    assert resolved(validate_recorded(plain, "again")) == plain


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("a.tflite", "b.tflite", "sub/a.tflite", "a-2.tflite", "net.keras", "odd name!.tflite"):
        write(tmp_path / name, "")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_no_target_is_the_quickstart() -> None:
    assert profile_for([]).name == "quickstart"


def test_model_files_are_compared_as_they_are(models: Path) -> None:
    profile = profile_for(["a.tflite", "b.tflite"], inputs=["x.npy"], overrides=["protocol.rounds=2"])
    assert profile.name == "a"
    assert [(v.name, v.file) for v in profile.variants] == [
        ("a", str(models / "a.tflite")),
        ("b", str(models / "b.tflite")),
    ]
    assert profile.task.kind == "latency"
    assert profile.task.inputs == [str(models / "x.npy")]
    assert profile.protocol.rounds == 2


def test_equal_names_are_told_apart(models: Path) -> None:
    profile = profile_for(["a.tflite", "sub/a.tflite", "a-2.tflite", "a.tflite", "odd name!.tflite"])
    assert names(profile) == ["a", "a-2", "a-2-2", "a-3", "odd-name-"]


def test_one_model_with_variants(models: Path) -> None:
    profile = profile_for(["a.tflite"], variants=["float32", "int8"])
    assert profile.model.path == str(models / "a.tflite")
    assert names(profile) == ["float32", "int8"]


def test_one_keras_model_has_the_default_variants_and_several_files_are_all_kept(models: Path) -> None:
    assert names(profile_for(["net.keras"])) == DEFAULT_VARIANTS
    profile = profile_for(["net.keras", "a.tflite"])
    assert [v.file for v in profile.variants] == [str(models / "net.keras"), str(models / "a.tflite")]


@pytest.mark.parametrize(
    ("targets", "options", "says"),
    [
        (["p.toml", "a.tflite"], {}, "one profile, or model files"),
        (["p.toml", "q.toml"], {}, "one profile, or model files"),
        (["quickstart", "a.tflite"], {}, "one profile, or model files"),
        (["quickstart"], {"variants": ["int8"]}, "--variants, --inputs, --bits and the like go with models"),
        ([], {"inputs": ["x.npy"]}, "--variants, --inputs, --bits and the like go with models"),
        (["a.tflite", "b.tflite"], {"variants": ["int8"]}, "give one model file"),
        (["c.tflite"], {}, "c.tflite: no such model"),
        (["quickstrat"], {}, r"did you mean the profile quickstart\?"),
        (["x" * 300], {}, "no such model"),
        (["a.tflite"], {"variants": ["int8", "int8"]}, "two variants are named 'int8'"),
    ],
)
def test_targets_that_do_not_go_together(models: Path, targets: list[str], options: dict[str, Any], says: str) -> None:
    with pytest.raises(ProfileError, match=says):
        profile_for(targets, **options)


CONFIG = '{"model_type": "llama"}'


@pytest.fixture
def checkpoint(models: Path) -> Path:
    write(models / "lm/config.json", CONFIG)
    return models / "lm"


def test_a_language_model_without_a_profile(checkpoint: Path) -> None:
    profile = profile_for(["lm"], overrides=["protocol.threads=2", "task.limit=50"])
    assert (profile.name, profile.model.path) == ("lm", str(checkpoint))
    assert [v.name for v in profile.variants] == ["bfloat16", "gptq-8bit", "gptq-4bit", "gptq-2bit"]
    assert (profile.task.kind, profile.task.dataset, profile.task.limit) == ("lastword", "passages", 50)
    assert profile.protocol.threads == 2


def test_bits_data_and_variants_of_a_language_model(checkpoint: Path) -> None:
    profile = profile_for(["lm"], bits=[4, 3], group_size=-1, data="text.jsonl")
    sections = profile.variants
    sizes = [(v.name, getattr(v, "group_size", None)) for v in sections]
    assert sizes == [("bfloat16", None), ("gptq-4bit", -1), ("gptq-3bit", -1)]
    assert (profile.task.data, profile.task.dataset) == (str(checkpoint.parent / "text.jsonl"), "")
    assert names(profile_for(["lm"], variants=["float32"])) == ["float32"]


def test_checkpoints_are_compared_as_they_are(checkpoint: Path) -> None:
    profile = profile_for(["lm", "org/other"], data="text.jsonl")
    sections = profile.variants
    assert [(v.name, v.file) for v in sections] == [("lm", str(checkpoint)), ("other", "hf://org/other")]
    assert (profile.model.path, profile.task.calibration_samples) == ("", 0)


@pytest.mark.parametrize("place", ["config.json", "quantize_config.json"])
def test_a_quantized_checkpoint_alone_is_run_as_it_is(checkpoint: Path, place: str) -> None:
    write(checkpoint / place, '{"model_type": "llama", "quantization_config": {"bits": 4}}')
    assert [(v.name, v.file) for v in profile_for(["lm"]).variants] == [("lm", str(checkpoint))]
    with pytest.raises(ProfileError, match="are run as they are"):
        profile_for(["lm"], bits=[4])


@pytest.mark.parametrize("target", ["org/some-GPTQ@v1", "hf://org/some-GPTQ@v1"])
def test_an_id_of_a_quantized_model_is_run_as_it_is(
    target: str, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(hub, "settings_folder", lambda reference: asked.append(reference) or checkpoint)
    assert profile_for([target]).model.path == "hf://org/some-GPTQ@v1"
    write(checkpoint / "config.json", '{"model_type": "llama", "quantization_config": {"bits": 4}}')
    assert [(v.name, v.file) for v in profile_for([target]).variants] == [("some-GPTQ", "hf://org/some-GPTQ@v1")]
    assert asked == ["hf://org/some-GPTQ@v1"] * 2


@pytest.mark.parametrize("target", ["org/some-model", "hf://org/some-model", "org/some-model@v1.0"])
def test_an_id_on_the_hub_is_taken_where_there_is_no_such_path(
    target: str, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "settings_folder", lambda _: None)  # as without a network
    profile = profile_for([target], bits=[8])
    assert profile.name == "some-model"
    assert profile.model.path == "hf://" + target.removeprefix("hf://")
    write(models / "org/some-model/config.json", CONFIG)
    if target == "org/some-model":
        assert profile_for([target]).model.path == str(models / "org/some-model")


def test_paths_on_the_hub_are_left_alone(tmp_path: Path) -> None:
    text = 'name = "p"\n[model]\npath = "hf://a/b"\n[task]\nkind = "lastword"\ndata = "hf://datasets/a/b"\n'
    profile = load_profile(write(tmp_path / "p.toml", text))
    assert (profile.model.path, profile.task.data) == ("hf://a/b", "hf://datasets/a/b")
    assert names(profile) == DEFAULT_LANGUAGE_VARIANTS


@pytest.mark.parametrize(
    ("targets", "options", "says"),
    [
        (["lm", "a.tflite"], {}, "runs on text, beside others of its kind"),
        (["lm"], {"inputs": ["x.npy"]}, "runs on text, beside others of its kind"),
        (["lm", "lm"], {"bits": [4]}, "are run as they are"),
        (["lm"], {"bits": [4], "variants": ["float32"]}, "give one or the other"),
        (["a.tflite"], {"bits": [4]}, "go with a language model, which a.tflite is not"),
        (["quickstart-lm"], {"bits": [4]}, "a profile names its own"),
        (["sub/missing.tflite"], {}, "sub/missing.tflite: no such model"),
        (
            ["lm"],
            {"overrides": ["task.dataset=shapes"]},
            "task.dataset: Invalid enum value 'shapes'; allowed: '', 'passages'",
        ),
        (["lm"], {"overrides": ["task.dataset="]}, "a lastword task needs data"),
        (["lm"], {"overrides": ["protocol.device=tpu"]}, "protocol.device"),
    ],
)
def test_language_models_that_are_asked_for_wrongly(
    checkpoint: Path, targets: list[str], options: dict[str, Any], says: str
) -> None:
    with pytest.raises(ProfileError, match=says):
        profile_for(targets, **options)


def test_a_file_goes_before_a_shipped_profile_of_its_name(models: Path) -> None:
    write(models / "quickstart", "")
    assert [v.file for v in profile_for(["quickstart"]).variants] == [str(models / "quickstart")]
