"""What would raise an AP that is near 0, and what detections are not counted, in one line each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from qprof.tasks.coco.analysis.plausible import Reading, crowded_images, empty_boxes
from qprof.tasks.coco.result import CocoResult

#: Readings that are told of one file; what is less likely only adds lines.
_TOLD = 2


def reading_lines(explained: Mapping[str, Sequence[Reading]]) -> Iterator[str]:
    """Per file of detections: the readings that give most."""
    for name, found in explained.items():
        for one in found[:_TOLD]:
            yield (
                f"LOW AP  {name}: if {one.says}, AP is {one.ap:.3f} instead of {one.given:.3f} "
                f"(tried on {one.images:,} images); to mend it, {one.remedy}"
            )


def crowd_lines(names: Sequence[str], results: Sequence[CocoResult]) -> Iterator[str]:
    """Images with more objects than detections are counted; the same for all files, so it is told once."""
    images, most = crowded_images(results[0])
    if images:
        limits = results[0].settings.max_dets
        more = ",".join(map(str, (*limits[:-1], most)))
        yield (
            f"note  {images:,} images hold more than {max(limits)} objects of one category, up to {most:,}, and no "
            f"more detections are counted in {' and '.join(names)}: AR cannot reach 1; --max-dets {more} counts them"
        )


def empty_lines(names: Sequence[str], results: Sequence[CocoResult]) -> Iterator[str]:
    """Boxes without width or height: of the annotations once, of the detections by file."""
    wanted = empty_boxes(results[0])[0]
    if wanted:
        yield f"note  {_without_size(results[0].truth.source, wanted, 'annotations', 'they cannot be found')}"
    for name, result in zip(names, results, strict=True):
        found = empty_boxes(result)[1]
        if found:
            yield f"note  {_without_size(name, found, 'detections', 'they find nothing')}"


def _without_size(source: str, count: int, what: str, so: str) -> str:
    return f"{source}: {count:,} {what} have a box whose width or height is 0 or less, so that {so}"
