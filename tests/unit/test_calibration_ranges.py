"""The key `ranges` of a static variant: whether what is rare in the calibration samples is cut off."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qprof.errors import ProfileError
from qprof.measure.keys import converted
from qprof.runtimes import registry
from qprof.runtimes.base import Calibration
from qprof.runtimes.litert.sections import LiteRTModelSection

pytest.importorskip("ai_edge_quantizer")
builder = pytest.importorskip("tflite_builder", reason="the builder of tiny models needs ai_edge_litert")


def input_scale(path: Path) -> float:
    from ai_edge_litert.interpreter import Interpreter

    model = Interpreter(str(path))
    model.allocate_tensors()
    scales = [tensor["quantization"][0] for tensor in model.get_tensor_details() if "image" in tensor["name"]]
    return float(max(scales))


def test_extremes_of_one_sample_are_kept_only_where_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QPROF_CACHE", str(tmp_path / "cache"))
    source = tmp_path / "net.tflite"
    source.write_bytes(builder.tiny_conv_net(size=16, channels=8))
    runtime = registry.get("litert")
    (spec,) = runtime.inputs_of(source)
    samples = [[np.random.default_rng(n).uniform(0, 1, spec.shape).astype(np.float32)] for n in range(12)]
    samples[6][0][0, 0, 0, 0] = 10.0
    maker = runtime.maker(LiteRTModelSection(path=str(source)), "cpu")
    scales = {}
    for ranges in ("", "moving-average", "min-max"):
        keys = {"name": "int8", **({"ranges": ranges} if ranges else {})}
        section = converted(keys, runtime.variant_section(keys), "variant")
        made = maker.make(section, Calibration(lambda: iter(samples), "twelve"))
        assert made.facts["settings"]["ranges"] == (ranges or "moving-average")
        scales[ranges] = input_scale(made.path)
    assert scales["min-max"] == pytest.approx(10.0 / 255, rel=0.01)
    assert scales["moving-average"] == scales[""] < 0.3 * scales["min-max"]


def test_other_ranges_are_refused_and_so_is_the_key_where_nothing_is_calibrated() -> None:
    runtime = registry.get("litert")
    for keys in ({"name": "int8", "ranges": "median"}, {"name": "int8-dynamic", "ranges": "min-max"}):
        with pytest.raises(ProfileError, match="ranges"):
            converted(keys, runtime.variant_section(keys), "variant")
