"""One figure as a file for a paper: the page's own specifications, drawn without a browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qprof.errors import MissingExtraError, QprofError
from qprof.report.page.charts.base import PAPER_CONFIG, Spec
from qprof.report.page.charts.curves import curve
from qprof.report.page.charts.machine import error_cost, power, roofline
from qprof.report.page.charts.times import drift, times
from qprof.report.page.charts.trade import bars, trade
from qprof.report.page.charts.waterfall import waterfall
from qprof.report.page.data import RunReport
from qprof.store.files import write_atomic

#: Version of Vega-Lite that the page's bundle has.
VEGA_LITE = "6.4"
#: A figure that stands alone in a column, in pixels of 1/72 inch.
WIDTH_PX = 420
SUFFIXES = (".pdf", ".svg", ".png")
#: Of a bitmap: pixels for each of the figure's, some 300 per inch in print.
_PNG_SCALE = 4.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """What of a run is drawn: a variant (by default the first that there is) and a phase."""

    variant: str | None
    phase: str
    width_px: int


def _waterfall(run: RunReport, of: Wanted) -> Spec | None:
    found = [pair for pair in run.pairs if of.variant in (None, pair.variant) and pair.phase == of.phase]
    return waterfall(found[0], of.width_px) if found else None


def _roofline(run: RunReport, of: Wanted) -> Spec | None:
    found = [one for one in run.rooflines if of.variant in (None, one.variant) and one.phase == of.phase]
    return roofline(found[0], of.width_px) if found else None


def _errors(run: RunReport, of: Wanted) -> Spec | None:
    found = [one for one in run.layers if of.variant in (None, one.variant)]
    return error_cost(found[0], of.width_px) if found else None


def _power(run: RunReport, of: Wanted) -> Spec | None:
    channel = next((block.channel for block in run.power if block.phase == of.phase), "")
    return power(run, of.phase, channel, of.width_px)


def _curve(name: str) -> Callable[[RunReport, Wanted], Spec | None]:
    def draw(run: RunReport, of: Wanted) -> Spec | None:
        found = next((one for one in run.curves if one.name == name), None)
        return None if found is None else curve(run, found, of.width_px)

    return draw


def _trade(across: str, up: str) -> Callable[[RunReport, Wanted], Spec | None]:
    return lambda run, of: trade(run, across, up, of.width_px)


def _bars(figure: str) -> Callable[[RunReport, Wanted], Spec | None]:
    return lambda run, of: bars(run, figure, of.width_px)


#: Name of a figure -> what it shows, and how it is drawn.
KINDS: dict[str, tuple[str, Callable[[RunReport, Wanted], Spec | None]]] = {
    "latency-accuracy": ("accuracy against inference time", _trade("latency", "accuracy")),
    "memory-accuracy": ("accuracy against peak memory", _trade("memory", "accuracy")),
    "size-accuracy": ("accuracy against size", _trade("size", "accuracy")),
    "energy-accuracy": ("accuracy against energy", _trade("energy", "accuracy")),
    "memory-latency": ("inference time against peak memory", _trade("memory", "latency")),
    "latency-bars": ("inference time, one bar per variant", _bars("latency")),
    "accuracy-bars": ("accuracy, one bar per variant", _bars("accuracy")),
    "memory-bars": ("peak memory, one bar per variant", _bars("memory")),
    "size-bars": ("size, one bar per variant", _bars("size")),
    "energy-bars": ("energy, one bar per variant", _bars("energy")),
    "times": ("box plot of the times, log scale", lambda run, of: times(run, of.phase, of.width_px)),
    "drift": ("the median of every round", lambda run, of: drift(run, of.phase, of.width_px)),
    "ap-iou": ("AP by IoU threshold", _curve("ap-iou")),
    "ap-area": ("AP by object size", _curve("ap-area")),
    "ar-area": ("AR by object size", _curve("ar-area")),
    "waterfall": ("where the time of --variant went", _waterfall),
    "roofline": ("the ops of --variant under the machine's ceilings", _roofline),
    "error-cost": ("error of each layer of --variant against its time", _errors),
    "power": ("power over time", _power),
}


def kinds() -> Iterator[str]:
    """ "NAME: what it shows", one line each."""
    yield from (f"{name}: {shows}" for name, (shows, _) in KINDS.items())


def figure(run: RunReport, kind: str, wanted: Wanted) -> Spec:
    """The specification of a figure for paper. Raises `QprofError` where the run has nothing to draw."""
    spec = KINDS[kind][1](run, wanted)
    if spec is None:
        of = f" of {wanted.variant}" if wanted.variant else ""
        raise QprofError(f"{run.name}: has nothing to draw as {kind}{of}; qprof report shows what it has")
    return spec


def write_figure(path: Path, spec: Spec) -> None:
    """Draw a specification into a .pdf, .svg or .png file. Raises `QprofError` for other names, `MissingExtraError`
    without the extra "plot", and `StoreError` where the file cannot be written."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise QprofError(f"{path}: a figure is written as {', '.join(SUFFIXES)}")
    try:
        import vl_convert
    except ImportError as error:
        raise MissingExtraError(
            "figures as files need the extra plot: pip install 'qprof[plot]' (the page of qprof report needs nothing)"
        ) from error
    options: dict[str, Any] = {"vl_version": VEGA_LITE, "config": PAPER_CONFIG}
    content: bytes
    if suffix == ".svg":
        content = vl_convert.vegalite_to_svg(spec, **options).encode()
    elif suffix == ".pdf":
        content = vl_convert.vegalite_to_pdf(spec, **options)
    else:
        content = vl_convert.vegalite_to_png(spec, scale=_PNG_SCALE, **options)
    write_atomic(path, lambda stream: stream.write(content))
