"""When ranges are said to cut activations off."""

from __future__ import annotations

import pytest

from qprof.findings.float_layers import LayerError, saturated


def layers(*worst: tuple[float, float | None]) -> list[LayerError]:
    """Layers with (own SQNR, share cut off), and eight sound ones of 38 dB."""
    rows = sorted([*worst, *[(38.0, 0.001)] * 8], key=lambda row: row[0])
    return [LayerError(str(n), str(n), str(n), "CONV_2D", own, share, (str(n),)) for n, (own, share) in enumerate(rows)]


@pytest.mark.parametrize(
    ("worst", "count"),
    [
        ([(12.0, 0.05)], 1),
        ([(12.0, 0.005)], 0),  # a calibration that clips rare extremes
        ([(12.0, None)], 0),  # not quantized to a range
        ([(45.0, 0.4)], 0),  # no larger an error than others
        ([(10.0, 0.05), (12.0, 0.05), (14.0, 0.05), (16.0, 0.05)], 4),  # many: another calibration
    ],
)
def test_what_saturates(worst: list[tuple[float, float | None]], count: int) -> None:
    known = layers(*worst)
    assert saturated(known) == known[:count]


def test_of_few_layers_nothing_is_said() -> None:
    assert saturated(layers((12.0, 0.05))[:7]) == []
