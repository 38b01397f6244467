"""Intervals of the 12 COCO figures: seconds and peak memory of drawing them, and what the evaluation itself takes.

    python tests/benchmarks/coco_bootstrap.py [--scale lvis] [--resamples 1000] [--threads 1] [--data FOLDER]

The first of the rounds draws the images too; the later ones have them at hand, as those of a second detector would.
"""

from __future__ import annotations

import argparse
import hashlib
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from coco_eval import SCALES
from coco_eval_ours import load, save

from qprof import coco
from qprof.tasks.coco import intervals


def ground_truth(arrays: dict[str, Any]) -> dict[str, Any]:
    """As columns."""
    return {
        "images": {"id": arrays["image_ids"]},
        "categories": {"id": arrays["category_ids"]},
        "annotations": {
            "id": arrays["gt_id"],
            "image_id": arrays["image_ids"][arrays["gt_image"]],
            "category_id": arrays["category_ids"][arrays["gt_category"]],
            "bbox": arrays["gt_boxes"],
            "area": arrays["gt_area"],
            "iscrowd": arrays["gt_crowd"],
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", choices=list(SCALES), default="lvis")
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--data", type=Path, help="folder to keep the data sets in, for the next time")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.data or Path(temporary)) / options.scale
        if not folder.exists():
            folder.mkdir(parents=True)
            save(folder, **SCALES[options.scale])
        arrays = load(str(folder))
    begin = time.process_time()
    result = coco.evaluate(ground_truth(arrays), arrays["table"], threads=options.threads)
    print(f"evaluation: {time.process_time() - begin:.2f} s of CPU, peak {peak_megabytes():.0f} MB")
    for _ in range(options.rounds):
        begin, wall = time.process_time(), time.perf_counter()
        drawn = intervals.Replicates.of(result, options.resamples, 0, 0.95, options.threads)
        spent, passed = time.process_time() - begin, time.perf_counter() - wall
        digest = hashlib.sha256(np.nan_to_num(drawn.overall, nan=-5).tobytes()).hexdigest()[:16]
        print(
            f"{options.resamples} resamples: {spent:.2f} s of CPU, {passed:.2f} s, peak {peak_megabytes():.0f} MB, "
            f"figures {digest}"
        )


def peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


if __name__ == "__main__":
    main()
