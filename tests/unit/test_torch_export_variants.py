"""Variants of exported networks, made and held against plain torch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch")
pytest.importorskip("torchao")

from qprof.errors import DataError, ModelError, ProfileError  # noqa: E402
from qprof.record.sections import VariantSection  # noqa: E402
from qprof.runtimes import registry  # noqa: E402
from qprof.runtimes.base import Calibration, Made  # noqa: E402
from qprof.runtimes.torch_export.maker import TorchExportMaker  # noqa: E402
from qprof.runtimes.torch_export.runtime import RUNTIME  # noqa: E402
from qprof.runtimes.torch_export.sections import (  # noqa: E402
    MadeTorchVariant,
    TorchExportFile,
    TorchExportModelSection,
    TorchExportOptions,
)
from torch_networks import (  # noqa: E402
    save_images,
    save_tokens,
    tiny_images,
    tiny_tokens,
    write_image_folder,
    write_text_folder,
)


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QPROF_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_images(tmp_path_factory.mktemp("images") / "net.pt2")


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tokens(tmp_path_factory.mktemp("tokens") / "net.pt2")


def pixels(seed: int) -> list[NDArray[Any]]:
    return [np.random.default_rng(seed).standard_normal((1, 3, 8, 8)).astype(np.float32)]


CALIBRATION = Calibration(lambda: (pixels(100 + n) for n in range(16)), "sixteen")


def make(path: Path, name: str, calibration: Calibration = CALIBRATION, **keys: Any) -> Made:
    section: VariantSection = MadeTorchVariant(name=name, **keys)
    return TorchExportMaker(TorchExportModelSection(path=str(path))).make(section, calibration)


def run(made: Made, inputs: list[NDArray[Any]], engine: Any = None) -> NDArray[Any]:
    model = RUNTIME.load(made.path, TorchExportOptions(engine=engine or made.run["engine"]))
    model.set_inputs(inputs)
    model.invoke()
    (found,) = model.outputs()
    return found


def sqnr_db(reference: NDArray[Any], value: NDArray[Any]) -> float:
    return float(10 * np.log10(np.square(reference).sum() / np.square(reference - value).sum()))


def plain(net: Any, inputs: list[NDArray[Any]]) -> NDArray[Any]:
    with torch.no_grad():
        found: NDArray[Any] = net(*map(torch.from_numpy, inputs)).float().numpy()
    return found


def test_eager_float_is_the_module(images: Path) -> None:
    made = make(images, "float32-eager")
    assert made.path == images  # nothing is made of it
    np.testing.assert_array_equal(run(made, pixels(0)), plain(tiny_images(), pixels(0)))


def test_bfloat16_computes_in_bfloat16(images: Path) -> None:
    made = make(images, "bfloat16-eager")
    net = tiny_images().to(torch.bfloat16)
    with torch.no_grad():
        expected = net(torch.from_numpy(pixels(0)[0]).to(torch.bfloat16)).float().numpy()
    found = run(made, pixels(0))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)


def test_compiled_variants_compute_what_they_should(images: Path) -> None:
    """And int8 is stored and loaded as int8."""
    reference = plain(tiny_images(), pixels(0))
    exact, int8 = make(images, "float32"), make(images, "int8")
    np.testing.assert_allclose(run(exact, pixels(0)), reference, rtol=1e-4, atol=1e-5)
    assert 20 < sqnr_db(reference, run(int8, pixels(0))) < 70
    parts = RUNTIME.stored(int8.path)
    assert parts is not None
    stored = {part.name: part for part in parts.parts}
    assert stored["stem.0.weight"].dtype == "int8" and stored["stem.0.weight"].bytes == 8 * 3 * 9
    assert stored["stem.0.weight_scale"].kind == "scales"
    assert int8.facts["left_in_float"] == [] and not int8.notes  # the convolution of a subclass neither
    assert all(part.dtype != "float32" or part.elements <= 8 for part in parts.parts)  # no float weight is left behind
    weights = 8 * 27 + 8 * 72 + 4 * 8
    model = RUNTIME.load(int8.path, TorchExportOptions())
    assert weights < model.memory_bytes()["footprint"] < 4 * weights


def test_int8_eager_is_quantize_dynamic(tokens: Path) -> None:
    from torch.ao.quantization import quantize_dynamic

    inputs = [np.arange(6, dtype=np.int64)[None] + 3, np.array([[1, 1, 1, 1, 0, 0]], np.float32)]
    made = make(tokens, "int8-eager")
    net = quantize_dynamic(tiny_tokens(), {torch.nn.Linear}, dtype=torch.qint8)
    np.testing.assert_array_equal(run(made, inputs), plain(net, inputs))
    assert not np.array_equal(run(made, inputs), plain(tiny_tokens(), inputs))
    model = RUNTIME.load(made.path, TorchExportOptions(engine="eager"))
    linears, table, biases = 16 * 32 + 32 * 3, 20 * 16 * 4, (32 + 3) * 4
    assert abs(model.memory_bytes()["footprint"] - (linears + table + biases)) <= biases


def test_int8_dynamic_quantizes_linears(tokens: Path) -> None:
    inputs = [np.arange(6, dtype=np.int64)[None] + 3, np.ones((1, 6), np.float32)]
    made = make(tokens, "int8-dynamic")
    assert 20 < sqnr_db(plain(tiny_tokens(), inputs), run(made, inputs)) < 70


def test_uncompiled_conversions_are_not_run(images: Path) -> None:
    made = make(images, "int8")
    with pytest.raises(ModelError, match="only a compiler makes integer kernels"):
        run(made, pixels(0), engine="eager")


def test_skipped_layers_stay_in_float(images: Path) -> None:
    made = make(images, "int8", skip_layers=["body.0"])
    parts = RUNTIME.stored(made.path)
    assert parts is not None
    dtypes = {part.name: part.dtype for part in parts.parts}
    assert (dtypes["stem.0.weight"], dtypes["body.0.weight"]) == ("int8", "float32")
    with pytest.raises(ModelError, match="names 'nowhere'"):
        make(images, "int8", skip_layers=["nowhere"])


def test_made_again_it_is_the_same(images: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    first = make(images, "int8")
    assert make(images, "int8").path == first.path  # cached
    monkeypatch.setenv("QPROF_CACHE", str(tmp_path))
    again = make(images, "int8")
    assert again.path != first.path and again.sha256 == first.sha256
    other = Calibration(lambda: iter([pixels(1)]), "one")
    assert make(images, "int8", other).sha256 != first.sha256


def test_what_cannot_be_made_is_told(images: Path, tokens: Path, tmp_path: Path) -> None:
    none = Calibration(lambda: iter(()), "none")
    with pytest.raises(DataError, match="needs calibration samples"):
        make(images, "int8", none)
    spoilt = Calibration(lambda: iter([[np.full((1, 3, 8, 8), np.nan, np.float32)]]), "nan")
    with pytest.raises(DataError, match="sample 0 holds NaN"):
        make(images, "int8", spoilt)
    shaped = Calibration(lambda: iter([[np.zeros((1, 3, 9), np.float32)]]), "shape")
    with pytest.raises(ModelError, match="calibration fails at sample 0"):
        make(images, "int8", shaped)
    with pytest.raises(ModelError, match="is quantized already"):
        make(make(images, "int8").path, "bfloat16")
    with pytest.raises(ProfileError, match="int9"):
        RUNTIME.variant_section({"name": "int9"})


def test_a_ready_made_file_is_run_as_it_is(images: Path) -> None:
    made = TorchExportMaker(TorchExportModelSection()).make(
        TorchExportFile(name="net", file=str(images), engine="eager"), CALIBRATION
    )
    np.testing.assert_array_equal(run(made, pixels(0)), plain(tiny_images(), pixels(0)))


def test_a_text_folder_is_exported_with_its_tokenizer(tmp_path: Path) -> None:
    model = write_text_folder(tmp_path / "texts")
    assert registry.for_model(tmp_path / "texts").name == "torch_export"
    maker = TorchExportMaker(TorchExportModelSection(path=str(tmp_path / "texts"), tokens=8))
    for name in ("float32-eager", "int8-eager"):
        made = maker.make(MadeTorchVariant(name=name), CALIBRATION)
        found = RUNTIME.load(made.path, TorchExportOptions(engine="eager"))
        assert found.loaded.labels == ["neg", "pos"]
        ids = found.tokenizer("a good film", padding="max_length", max_length=8)  # type: ignore[attr-defined]
        inputs = [np.array([ids[spec.name]], np.int64) for spec in found.loaded.inputs]
        assert [spec.name for spec in found.loaded.inputs] == ["input_ids", "attention_mask"]
        found.set_inputs(inputs)
        found.invoke()
        with torch.no_grad():
            expected = model(*map(torch.from_numpy, inputs)).logits.numpy()
        if name == "float32-eager":
            np.testing.assert_allclose(found.outputs()[0], expected, rtol=1e-5, atol=1e-6)
        else:
            assert sqnr_db(expected, found.outputs()[0]) > 15


def test_an_image_folder_says_how_its_pixels_are_normalized(tmp_path: Path) -> None:
    model = write_image_folder(tmp_path / "images")
    made = make(tmp_path / "images", "float32-eager")
    found = RUNTIME.load(made.path, TorchExportOptions(engine="eager"))
    assert [spec.shape for spec in found.loaded.inputs] == [(1, 3, 16, 16)]
    mean, std = found.loaded.pixels or (None, None)
    np.testing.assert_allclose(mean, [127.5, 102, 76.5])
    np.testing.assert_allclose(std, [51, 76.5, 102])
    image = np.random.default_rng(0).standard_normal((1, 3, 16, 16)).astype(np.float32)
    np.testing.assert_allclose(run(made, [image]), model(torch.from_numpy(image)).logits.detach().numpy(), rtol=1e-4)


def test_a_folder_of_pickles_is_refused(tmp_path: Path) -> None:
    write_text_folder(tmp_path / "texts")
    (tmp_path / "texts" / "model.safetensors").rename(tmp_path / "texts" / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"only pytorch_model.bin, a pickle"):
        make(tmp_path / "texts", "float32-eager")
