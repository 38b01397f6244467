"""Patched variants: activations of the baseline in place of a variant's own, in a model that runs like any other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

import tflite_builder
from litert_edits import entry, made_entry, names, ops_of, real, run, sqnr_db, with_weight_scale, written
from qprof.errors import ModelError, ProfileError
from qprof.measure.profile_file import load_profile
from qprof.record.quantization import quantize
from qprof.runtimes.interventions import Impossible
from qprof.runtimes.litert.flatbuffer import read_model
from qprof.runtimes.litert.halves import halves
from qprof.runtimes.litert.interpreter import LiteRTModel
from qprof.runtimes.litert.patched import PatchedModel, patch_files
from qprof.runtimes.litert.runtime import RUNTIME
from qprof.runtimes.litert.sections import LiteRTFile, LiteRTOptions, Patch
from tflite_builder import Graph, build_model

CHANGED = 8  # a CONV_2D of the person detector


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QPROF_CACHE", str(tmp_path / "cache"))


def images(count: int, shape: tuple[int, ...], seed: int = 0) -> list[NDArray[np.float32]]:
    random = np.random.default_rng(seed)
    return [random.uniform(0, 1, shape).astype(np.float32) for _ in range(count)]


@pytest.fixture
def nets(tmp_path: Path) -> tuple[Path, Path]:
    """A float net (stem -> depthwise -> residual (with stem) -> pooled -> logits -> probabilities), and one with other
    weights."""
    paths = tmp_path / "float.tflite", tmp_path / "other.tflite"
    content = tflite_builder.tiny_conv_net()
    paths[0].write_bytes(content)

    def edit(file: Any) -> None:
        for tensor in file.main.tensors:
            if tensor.name.endswith(b"kernel"):
                data = np.frombuffer(file.objects.buffers[tensor.buffer].data, np.float32)
                file.objects.buffers[tensor.buffer].data = (data * 1.5).view(np.uint8)

    return paths[0], written(paths[0], paths[1], edit)


def test_all_behind_a_patched_op_is_as_in_the_baseline(nets: tuple[Path, Path]) -> None:
    """The two nets differ in stem and depthwise alone; what depends on neither but through the patch is the same."""
    base, other = nets
    image = images(1, (1, 16, 16, 3))
    reference, unlike = real(LiteRTModel(base), image), real(LiteRTModel(other), image)
    assert not np.allclose(reference, unlike)
    patched = PatchedModel(other, base, {"residual": "residual"})
    np.testing.assert_allclose(real(patched, image), reference, rtol=1e-5)
    both = PatchedModel(other, base, {"stem": "stem", "depthwise": "depthwise"})
    np.testing.assert_allclose(real(both, image), reference, rtol=1e-5)


def test_what_goes_past_a_patched_op_is_the_variants_own(nets: tuple[Path, Path]) -> None:
    """residual = stem + depthwise: with depthwise patched, the stem that goes past it is still the variant's."""
    base, other = nets
    image = images(1, (1, 16, 16, 3))
    patched = PatchedModel(other, base, {"depthwise": "depthwise"})
    taps = {}
    for path in nets:
        tapped = LiteRTModel(patch_files(path, path, {"stem": "stem", "depthwise": "depthwise"}).baseline)
        taps[path] = dict(zip([s.name for s in tapped.loaded.outputs], run(tapped, image), strict=True))
    expected = taps[other]["stem"] + taps[base]["depthwise"]
    behind = LiteRTModel(patch_files(other, other, {"residual": "residual"}).variant)
    unpatched = real(LiteRTModel(other), image)
    found = real(patched, image)
    np.testing.assert_allclose(found, run(behind, [*image, expected])[0], rtol=1e-5)
    assert not np.allclose(found, unpatched)


def test_a_new_input_gives_new_activations(nets: tuple[Path, Path]) -> None:
    base, other = nets
    patched = PatchedModel(other, base, {"residual": "residual"})
    first, second = (real(patched, [image]) for image in images(2, (1, 16, 16, 3)))
    assert not np.allclose(first, second)
    np.testing.assert_array_equal(real(patched, images(1, (1, 16, 16, 3))), first)


def test_the_last_op_can_be_patched(nets: tuple[Path, Path]) -> None:
    base, other = nets
    image = images(1, (1, 16, 16, 3))
    patched = PatchedModel(other, base, {"probabilities": "probabilities"})
    np.testing.assert_array_equal(real(patched, image), real(LiteRTModel(base), image))


def test_inputs_that_are_resized(tmp_path: Path) -> None:
    path = tmp_path / "open.tflite"
    path.write_bytes(tflite_builder.dynamic_batch_net())
    patched = PatchedModel(path, path, {"residual": "residual"}, input_shapes={"image": [3, 16, 16, 3]})
    batch = images(1, (3, 16, 16, 3))
    whole = LiteRTModel(path, input_shapes={"image": [3, 16, 16, 3]})
    np.testing.assert_allclose(real(patched, batch), real(whole, batch), rtol=1e-5)
    assert patched.loaded.outputs[0].shape == (3, 10)


def test_it_is_a_model_like_any_other(nets: tuple[Path, Path]) -> None:
    base, other = nets
    model = RUNTIME.load(other, LiteRTOptions(patch=Patch(baseline=str(base), ops={"stem": "stem"})))
    assert [spec.name for spec in model.loaded.inputs] == ["image"]
    assert [spec.name for spec in model.loaded.outputs] == ["probabilities"]
    assert "not its latency" in model.loaded.notes[0]
    model.enter("inference")
    with pytest.raises(ModelError, match="phase"):
        model.enter("decode")
    assert model.memory_bytes() == {}
    with pytest.raises(ModelError, match="not timed"):
        RUNTIME.instrument(model, other, LiteRTOptions(patch=Patch(baseline=str(base), ops={"stem": "stem"})))


def test_one_op_of_the_baseline_for_two_of_the_variant(tmp_path: Path) -> None:
    graph = Graph()
    value = graph.input("value", (1, 4))
    left, right = graph.multiply("left", value, value), graph.add("right", value, value)
    graph.outputs = [graph.add("sum", left, right)]
    path = tmp_path / "two.tflite"
    path.write_bytes(build_model([graph]))
    patched = PatchedModel(path, path, {"left": "right", "right": "right"})
    value_of = np.array([[1, 2, 3, 4]], np.float32)
    np.testing.assert_array_equal(run(patched, [value_of])[0], 4 * value_of)


@pytest.mark.parametrize(
    ("ops", "told"),
    [
        ({}, "no op is to be patched"),
        ({"nothing": "stem"}, "no op named 'nothing'"),
        ({"stem": "nothing"}, "no op named 'nothing'"),
        ({"stem": "logits"}, "have one size"),
    ],
)
def test_what_does_not_fit_is_told(nets: tuple[Path, Path], ops: dict[str, str], told: str) -> None:
    with pytest.raises(ModelError, match=told):
        patch_files(nets[1], nets[0], ops)
    found = RUNTIME.interventions.patched(entry(nets[1]), entry(nets[0]), list(ops.items()))
    assert isinstance(found, Impossible) and told in found.reason


def test_numbers_of_another_kind_are_told(tmp_path: Path) -> None:
    """Which is the largest (int64) is no activation to put in the place of a float."""
    paths = []
    for name in ("index", "float"):
        graph = Graph()
        value = graph.input("value", (1, 4))
        if name == "index":
            axis = graph.constant("axis", np.array(1, np.int32))
            graph.outputs = [graph.tensor("one", (1,), "int64")]
            graph.op("ARG_MAX", [value, axis], graph.outputs, schema.ArgMaxOptionsT(outputType=schema.TensorType.INT64))
        else:
            axes = graph.constant("axes", np.array([1], np.int32))
            graph.outputs = [graph.tensor("one", (1,))]
            graph.op("SUM", [value, axes], graph.outputs, schema.ReducerOptionsT())
        paths.append(tmp_path / f"{name}.tflite")
        paths[-1].write_bytes(build_model([graph]))
    with pytest.raises(ModelError, match="do not stand for the same numbers"):
        PatchedModel(paths[1], paths[0], {"one": "one"})


def test_damaged_files_give_one_line(nets: tuple[Path, Path], tmp_path: Path) -> None:
    base, _ = nets
    content, path = base.read_bytes(), tmp_path / "damaged.tflite"
    random = np.random.default_rng(0)
    refused = 0
    for number in range(100):
        spoiled = bytearray(content)
        for place in random.integers(8, len(content), 12):
            spoiled[place] = int(random.integers(0, 256))
        path.write_bytes(spoiled)
        for make in (
            lambda: patch_files(*((path, base) if number % 2 else (base, path)), {"residual": "residual"}),  # noqa: B023
            lambda: halves(path, "residual"),
        ):
            try:
                make()
            except ModelError as error:
                refused += 1
                assert "\n" not in str(error)
    assert refused > 50


def test_another_input_is_told(nets: tuple[Path, Path], tmp_path: Path) -> None:
    larger = tmp_path / "larger.tflite"
    larger.write_bytes(tflite_builder.tiny_conv_net(size=32))
    with pytest.raises(ModelError, match="cannot be given the same numbers"):
        PatchedModel(larger, nets[0], {"logits": "logits"})


def test_a_model_with_variables_is_not_taken_apart(tmp_path: Path) -> None:
    graph = Graph()
    value = graph.input("value", (1, 4))
    graph.op("ASSIGN_VARIABLE", [value, value], [])
    graph.outputs = [graph.add("sum", value, value)]
    path = tmp_path / "state.tflite"
    path.write_bytes(build_model([graph]))
    with pytest.raises(ModelError, match="keeps a state"):
        patch_files(path, path, {"sum": "sum"})


def test_the_section_runs_in_a_profile(nets: tuple[Path, Path], tmp_path: Path) -> None:
    base, other = nets
    section = RUNTIME.interventions.patched(
        entry(other, threads=1, delegate="none"), entry(base), [("residual", "residual")]
    )
    assert not isinstance(section, Impossible)
    assert section["threads"] == 1 and section["delegate"] == "none"
    typed = msgspec.convert(section, RUNTIME.variant_section(section))
    assert isinstance(typed, LiteRTFile) and typed.patch == Patch(baseline=str(base), ops={"residual": "residual"})
    # By hand, with a path that is relative to the profile.
    profile = tmp_path / "patched.toml"
    profile.write_text(
        'name = "a"\n[[variants]]\nname = "b"\nfile = "other.tflite"\n'
        'patch = { baseline = "float.tflite", ops = { residual = "residual" } }\n'
    )
    read = load_profile(profile).variants[0]
    assert isinstance(read, LiteRTFile) and read.patch == typed.patch
    profile.write_text(profile.read_text().replace("baseline", "base_line"))
    with pytest.raises(ProfileError, match=r"unknown key variants\[0\].patch.base_line"):
        load_profile(profile)


def test_a_made_variant_is_patched_by_the_file_that_was_made(nets: tuple[Path, Path]) -> None:
    base, other = nets
    section = RUNTIME.interventions.patched(
        made_entry(other, "int8"), made_entry(base, "float32"), [("residual", "residual")]
    )
    assert not isinstance(section, Impossible)
    assert section["file"] == str(other) and section["patch"]["baseline"] == str(base)
    assert "method" not in section and "delegate" not in section


def test_a_patched_variant_is_not_changed_further(nets: tuple[Path, Path]) -> None:
    base, other = nets
    patched = entry(other, patch={"baseline": str(base), "ops": {"stem": "stem"}})
    for found in (
        RUNTIME.interventions.bypassed(patched, ["stem"]),
        RUNTIME.interventions.patched(patched, entry(base), [("stem", "stem")]),
    ):
        assert isinstance(found, Impossible) and "runs two models" in found.reason


def test_a_spoiled_int8_layer_is_healed_by_the_float_models_activations(qprof_data: Path, tmp_path: Path) -> None:
    """Weights of one layer taken three times as large: its output patched, the rest is as good as in the sound file."""
    sound, base = qprof_data / "models/vww_96_int8.tflite", qprof_data / "models/vww_96_float.tflite"
    spoiled = with_weight_scale(sound, tmp_path / "spoiled.tflite", CHANGED, 3)
    spec = LiteRTModel(sound).loaded.inputs[0]
    samples = images(10, spec.shape)
    ops = {names(sound)[CHANGED]: names(base)[CHANGED]}
    float_model, healed = LiteRTModel(base), PatchedModel(spoiled, base, ops)
    reference = np.array([real(float_model, [image]) for image in samples])
    found = np.array([real(healed, [image]) for image in samples])
    plain = {
        path: np.array([real(model, [quantize(image, spec)]) for image in samples])
        for path, model in ((sound, LiteRTModel(sound)), (spoiled, LiteRTModel(spoiled)))
    }
    before, after = sqnr_db(reference, plain[spoiled]), sqnr_db(reference, found)
    assert before < 20 and after > before + 9
    assert after > sqnr_db(reference, plain[sound]) - 1


def test_a_spoiled_layer_patched_by_the_sound_file_gives_the_sound_outputs(qprof_data: Path, tmp_path: Path) -> None:
    """With a baseline whose tensors have the same scales nothing is lost: bit-identical, layer by layer."""
    sound = qprof_data / "models/pretrainedResnet_quant.tflite"
    whole = LiteRTModel(sound)
    spec = whole.loaded.inputs[0]
    image = quantize(images(1, spec.shape)[0] * 255, spec)
    reference = run(whole, [image])[0]
    for op in ops_of(sound):
        if op.type != "CONV_2D":
            continue
        spoiled = with_weight_scale(sound, tmp_path / f"{op.index}.tflite", op.index, 3)
        assert not np.array_equal(run(LiteRTModel(spoiled), [image])[0], reference)
        np.testing.assert_array_equal(run(PatchedModel(spoiled, sound, {op.name: op.name}), [image])[0], reference)


def test_ops_that_only_feed_patched_ops_are_gone(nets: tuple[Path, Path]) -> None:
    files = patch_files(nets[1], nets[0], {"residual": "residual"})
    assert names(files.variant) == ["pooled", "logits", "probabilities"]
    assert names(files.baseline) == ["stem", "depthwise", "residual"]
    inputs = read_model(files.variant).subgraphs[0].inputs
    assert len(inputs) == 2 and files.inputs == 1 and files.origins == (0,)
