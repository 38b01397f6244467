"""Files that ship inside the package: a small detector and a small language model, so that the first run needs no
download.

`shapes_detector.tflite` is a float32 CenterNet detector of the shapes that `qprof.tasks.detection.scenes` renders;
`shapes_detector.json` beside it tells its inputs, outputs, training and measured accuracy. Both are made by
`training/detector.py`. `shapes_detector_qat.tflite` is the same detector, trained further with the rounding of int8 by
`training/detector_qat.py`. `passages_lm` is a causal language model of the passages that
`qprof.tasks.lastword.passages` writes, in Hugging Face's layout, made by
`training/language_model.py`.
"""

from __future__ import annotations

from pathlib import Path

from qprof.errors import DataError


def path(name: str) -> Path:
    """The path of the shipped file or folder `name`; raise `DataError` where there is none of that name."""
    folder = Path(__file__).parent
    shipped = sorted(
        entry.name
        for entry in folder.iterdir()
        if entry.suffix in {".tflite", ".json"} or (entry / "config.json").is_file()
    )
    if name not in shipped:
        raise DataError(f"no embedded file {name!r} in {folder}: there are {', '.join(shipped) or 'none'}")
    return folder / name
