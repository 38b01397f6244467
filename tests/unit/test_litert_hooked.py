"""Something in front of each op, in clean inferences: the same outputs, and refusals in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert.interpreter")
core = pytest.importorskip("qprof.core._op_profiler")

from qprof.errors import ModelError, ProfileError  # noqa: E402
from qprof.measure.profile import validate  # noqa: E402
from qprof.record.sections import ModelSection, ProtocolSection  # noqa: E402
from qprof.runtimes.base import Asked  # noqa: E402
from qprof.runtimes.litert.hooked import HookedModel  # noqa: E402
from qprof.runtimes.litert.interpreter import LiteRTModel  # noqa: E402
from qprof.runtimes.litert.profiled import ProfiledModel  # noqa: E402
from qprof.runtimes.litert.runtime import RUNTIME  # noqa: E402
from qprof.runtimes.litert.sections import LiteRTFile, LiteRTOptions  # noqa: E402

EMBEDDED = Path(__file__).parents[2] / "src" / "qprof" / "embedded" / "shapes_detector.tflite"


def outputs(model: Any) -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    model.set_inputs([rng.random(spec.shape).astype(spec.dtype) for spec in model.loaded.inputs])
    model.invoke()
    return list(model.outputs())


@pytest.mark.parametrize("before_ops", ["nothing", "flush-caches", "warm-caches"])
def test_a_variant_is_loaded_with_what_its_section_wants_done(before_ops: str) -> None:
    section = LiteRTFile(name="v", file=str(EMBEDDED), before_ops=before_ops)
    options = RUNTIME.options(section, Asked(ProtocolSection(), ModelSection(), None, {}))
    assert isinstance(options, LiteRTOptions) and options.before_ops == before_ops
    model = RUNTIME.load(EMBEDDED, options)
    assert isinstance(model, HookedModel) and not isinstance(model, ProfiledModel)
    assert model.untimed_nodes == 0 and model.hooked_nodes > 0
    for ours, plain in zip(outputs(model), outputs(LiteRTModel(EMBEDDED)), strict=True):
        assert np.array_equal(ours, plain)


def test_a_variant_that_wants_nothing_done_has_nothing_in_front_of_its_ops() -> None:
    model = RUNTIME.load(EMBEDDED, LiteRTOptions())
    assert isinstance(model, LiteRTModel) and not isinstance(model, HookedModel)


def test_a_word_that_is_none_is_refused_by_the_profile_and_by_the_model() -> None:
    variant = {"name": "v", "file": str(EMBEDDED), "before_ops": "pray"}
    with pytest.raises(ProfileError, match="before_ops"):
        validate({"name": "p", "variants": [variant], "task": {"kind": "latency"}}, "p.toml")
    with pytest.raises(ModelError, match="before_ops: there is nothing called 'pray' to do before an op"):
        HookedModel(EMBEDDED, before_ops="pray")


def test_a_processor_without_such_registers_resets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = RUNTIME.instrument(RUNTIME.load(EMBEDDED, LiteRTOptions()), EMBEDDED, LiteRTOptions())
    done: list[str] = []

    def prepare(before_ops: str) -> None:
        done.append(before_ops)
        if before_ops.startswith("reset"):
            raise ModelError("this processor cannot reset vectors: it has no instruction for it")

    monkeypatch.setattr(model, "prepare", prepare)
    assert RUNTIME.reset_before_ops(model, True) is False
    assert RUNTIME.reset_before_ops(model, False) is True
    assert done == ["reset-vectors", "nothing"]


def test_resets_end_with_what_the_variant_itself_wants_done() -> None:
    options = LiteRTOptions(before_ops="warm-caches")
    model = RUNTIME.instrument(RUNTIME.load(EMBEDDED, options), EMBEDDED, options)
    done: list[str] = []
    model.prepare = done.append  # type: ignore[attr-defined]
    RUNTIME.reset_before_ops(model, True)
    RUNTIME.reset_before_ops(model, False)
    assert done == ["reset-vectors", "warm-caches"]
