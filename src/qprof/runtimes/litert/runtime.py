"""The LiteRT runtime, as the rest of qprof sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from qprof.errors import ModelError
from qprof.runtimes import base
from qprof.runtimes.litert.interpreter import LiteRTModel


class LiteRTRuntime:
    """`.tflite` files, and SavedModel folders and Keras files to make them from; satisfies `base.Runtime`."""

    name = "litert"
    packages: Sequence[str] = ("ai-edge-litert", "ai-edge-quantizer", "tensorflow")

    def accepts(self, path: Path) -> bool:
        return path.suffix in (".tflite", ".keras", ".h5") or (path / "saved_model.pb").is_file()

    def require(self) -> None:
        """LiteRT comes with qprof."""

    def preload(self) -> None:
        import ai_edge_litert.interpreter  # noqa: F401
        from ai_edge_litert import schema_py_generated  # noqa: F401

    def load(self, path: Path, options: base.RunOptions) -> base.Model:
        return LiteRTModel(path, threads=options.threads, delegate=options.delegate, input_shapes=options.input_shapes)

    def instrument(self, model: base.Model, path: Path, options: base.RunOptions) -> base.ProfiledModel:
        try:
            from qprof.runtimes.litert.profiled import ProfiledModel
        except ImportError as error:
            raise ModelError(
                f"per-op timing is off: the compiled core is missing ({error}); reinstall qprof"
            ) from error
        return ProfiledModel(
            path, threads=options.threads, delegate=options.delegate, input_shapes=options.input_shapes
        )

    def maker(self, model: Mapping[str, Any]) -> base.VariantMaker:
        return LiteRTMaker(model)


class LiteRTMaker:
    """Makes the variants of one model; satisfies `base.VariantMaker`."""

    def __init__(self, model: Mapping[str, Any]) -> None:
        from qprof.runtimes.litert.make import VariantMaker

        self._model = model
        self._maker = VariantMaker()

    def float_model(self) -> base.Model:
        made = self._maker.make(self._request("float32", {}))
        return LiteRTModel(made.path, input_shapes=self._model.get("input_shapes") or {})

    def make(self, variant: Mapping[str, Any], calibration: base.Calibration) -> base.Made:
        from qprof.runtimes.litert import make

        if variant.get("file"):
            request = make.MakeRequest(Path(variant["file"]), make.FILE)
        else:
            method = variant.get("method") or variant["name"]
            request = self._request(method, variant, calibration)
        made = self._maker.make(request)
        facts = {
            "method": made.method,
            "tool": made.tool,
            "tool_version": made.tool_version,
            "make_seconds": made.seconds,
            "settings": made.settings,
        }
        return base.Made(made.path, made.sha256, made.bytes, facts, list(made.notes))

    def _request(self, method: str, variant: Mapping[str, Any], calibration: Any = None) -> Any:
        from qprof.runtimes.litert.make import MakeRequest

        return MakeRequest(
            source=Path(self._model["path"]),
            method=method,
            calibration=calibration,
            ops=variant.get("ops") or None,
            skip_ops=variant.get("skip_ops") or None,
            skip_layers=variant.get("skip_layers") or None,
            io=variant.get("io"),
            batch=self._model.get("batch", 1),
        )


RUNTIME: base.Runtime = LiteRTRuntime()
