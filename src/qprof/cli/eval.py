"""score detections against ground truth, with intervals

COCO's figures for boxes, masks and keypoints (AP, AR), exactly as pycocotools computes them, and LVIS's; with 95 %
intervals by a bootstrap over images. Two files of detections are compared on the same resamples. An AP of boxes near 0
is explained: what reading the boxes or the categories in another way would give. Files may be gzip'd, and results JSON
Lines or wrapped in an object.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from qprof.cli.common import count


def max_dets(text: str) -> tuple[int, ...]:
    """The argument of --max-dets: "1,10,100"."""
    return tuple(count(part) for part in text.split(","))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", choices=["coco"], help="the rules of scoring")
    parser.add_argument("ground_truth", metavar="GT", type=Path, help="COCO annotations (an 'instances' JSON file)")
    parser.add_argument("detections", metavar="DT", type=Path, help="COCO results (a JSON list of detections)")
    parser.add_argument("other", metavar="DT2", type=Path, nargs="?", help="results of another detector, to compare")
    parser.add_argument("--per-class", action="store_true", help="also one row per category")
    parser.add_argument("--per-area", action="store_true", help="also one row per size of objects")
    parser.add_argument(
        "--iou-type",
        choices=["bbox", "segm", "boundary", "keypoints"],
        default="bbox",
        help="what is compared: boxes (default), masks, masks and their boundaries, or keypoints",
    )
    parser.add_argument("--style", choices=["coco", "lvis"], default="coco", help="whose rules (default: COCO's)")
    parser.add_argument(
        "--max-dets",
        type=max_dets,
        metavar="N,...",
        help="detections per image and category (default: 1,10,100; 20 of keypoints; in LVIS 300 per image)",
    )
    parser.add_argument("--no-intervals", action="store_true", help="the figures alone")
    parser.add_argument("--resamples", type=count, default=1000, metavar="N", help="of the bootstrap (default: 1000)")
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap (default: 0)")
    parser.add_argument("--threads", type=count, metavar="N", help="default: as many as there are processors")
    parser.add_argument("--strict", action="store_true", help="unknown images and categories in the results are errors")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="also write every figure to a CSV file")


def run(options: argparse.Namespace) -> int:
    import sys

    from qprof.errors import QprofError
    from qprof.findings.coco_table import Resampling, figure_rows
    from qprof.probes.machine import available_cores
    from qprof.report.coco import CSV_COLUMNS, CSV_COLUMNS_PAIR, coco_json, coco_tables, csv_rows
    from qprof.report.coco_readings import crowd_lines, empty_lines, reading_lines
    from qprof.report.export import write_csv, write_json
    from qprof.report.table import print_table
    from qprof.report.terminal import print_lines
    from qprof.tasks.coco.analysis.plausible import readings, refuse_other_images
    from qprof.tasks.coco.evaluate import evaluate
    from qprof.tasks.coco.inputs import read_ground_truth

    if options.seed < 0:
        raise QprofError(f"--seed {options.seed}: give a number from 0")
    threads = options.threads or available_cores()
    plain = options.iou_type == "bbox" and options.style == "coco"
    truth = read_ground_truth(options.ground_truth, threads) if plain else options.ground_truth
    files = [options.detections] if options.other is None else [options.detections, options.other]
    results = [
        evaluate(
            truth,
            file,
            iou_type=options.iou_type,
            style=options.style,
            max_dets=options.max_dets,
            threads=threads,
            strict=options.strict,
        )
        for file in files
    ]
    for file, result in zip(files, results, strict=True):
        refuse_other_images(result, str(file))
    a, b = results[0], results[1] if len(results) > 1 else None
    names = [str(file) for file in files]
    how = Resampling(None if options.no_intervals else options.resamples, options.seed, threads=threads)
    rows = figure_rows(a, b, how, per_class=options.per_class, per_area=options.per_area)
    if options.csv is not None:
        write_csv(options.csv, CSV_COLUMNS if b is None else CSV_COLUMNS_PAIR, csv_rows(rows))
    explained = {name: readings(result, threads) for name, result in zip(names, results, strict=True) if plain}
    if options.json:
        write_json(sys.stdout, coco_json(a, b, names, rows, how) | {"readings": explained})
        return 0
    print_lines([*reading_lines(explained), *crowd_lines(names, results), *empty_lines(names, results)], sys.stdout)
    for number, table in enumerate(coco_tables(a, b, names, rows, how)):
        if number:
            print()
        print_table(table, sys.stdout)
    return 0
