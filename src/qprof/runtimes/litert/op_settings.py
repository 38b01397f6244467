"""How the ops of a .tflite are set: what changes the numbers that they make, as its file says it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qprof.runtimes.litert.edit import open_file

#: Fields of the schema's option tables (tensorflow/lite/schema/schema.fbs) that say what an op computes. Others say how
#: (weightsFormat, asymmetricQuantizeInputs), repeat a shape (newShape, depthMultiplier), or have two names for one
#: thing (axis, from the front and from the back).
_OF_THE_FUNCTION = frozenset(
    [
        *("padding", "strideW", "strideH", "dilationWFactor", "dilationHFactor", "filterWidth", "filterHeight"),
        *("fusedActivationFunction", "alpha", "beta", "radius", "bias", "keepDims"),
        *("alignCorners", "halfPixelCenters", "mode", "blockSize", "exclusive", "reverse", "approximate"),
        *("beginMask", "endMask", "ellipsisMask", "newAxisMask", "shrinkAxisMask", "adjX", "adjY"),
    ]
)
#: Fields whose numbers have names -> the schema's class of them.
_NAMED = {"padding": "Padding", "fusedActivationFunction": "ActivationFunctionType", "mode": "MirrorPadMode"}


def op_settings(path: Path) -> dict[str, dict[str, str]]:
    """Op of the main subgraph, by index -> field -> its value; none for an op without options. Raises `ModelError`
    where the file cannot be read."""
    return {
        str(index): _settings(op.builtinOptions or op.builtinOptions2)
        for index, op in enumerate(open_file(path).objects.subgraphs[0].operators)
    }


def _settings(options: Any) -> dict[str, str]:
    if options is None:
        return {}
    return {name: _text(name, value) for name, value in vars(options).items() if name in _OF_THE_FUNCTION}


def _text(name: str, value: Any) -> str:
    from ai_edge_litert import schema_py_generated as schema

    if name not in _NAMED or not isinstance(value, int):  # of StableHLO's ops some have lists of the same name
        return str(value.tolist() if hasattr(value, "tolist") else value)
    names: Mapping[str, Any] = vars(getattr(schema, _NAMED[name]))
    return next((key for key, number in names.items() if number == value and key.isupper()), str(value))
