"""How what qprof said is held against what was planted. These rules were written before any result was seen.

A planted thing is NAMED
  - (latency) if the comparison's decomposition has a row of one of its mechanisms whose amount agrees with the measured
    truth within 25 %, or lies in the truth's own 95 % interval. The amount is what the ops that match its patterns add
    up to in the row; or the row's own, where the planted thing has no patterns, or where these ops hold at least half
    of the row.
  - (latency, score) or if a finding names it: one that is not refuted, whose cause, claim or intervention holds one of
    its words, and, where it has patterns, whose ops or text hold one of these.
  - (environment, baseline) if the texts of `plausibility`, `doubts`, a failed audit, a note, or a finding that is not
    refuted hold one of its words. A baseline fault is also found where a finding says so under any comparison.
It is CONFIRMED if a finding that names it has the status "confirmed". (For the environment, naming is all there is.)

A FALSE CONFIRMATION is a finding with the status "confirmed" that claims a part of a difference of latency, of a score
or of the texts without a finite likelihood (its effect is not null), and
  1. the case plants nothing of that figure in that comparison (identical files, a busy machine, another figure), and it
     does not name the fault of the machine or of the baseline that is planted, or
  2. it matches none of the planted things there: its mechanism, where it has one, is none of theirs; or, where it has
     none, its words are none of theirs; or it names ops, and none of theirs is among them, or
  3. it matches one, but its effect has the other sign than the truth, or is more than twice the truth.
A consequence is no contradiction: "neighbourhood" and "between the ops" are allowed wherever latency is planted.
A finding without an effect (a bound, a protocol's remark) claims no difference, and is never false by these rules.

NOT ESTABLISHED is a planted thing whose own truth does not show it: the interval of its ratio holds 1, its sign is not
the one it was planted with, or it is below half a point of a score. It is listed and judged, and counts in no total.

SHARE: `share_explained` of the decomposition; where there is none, 1 - |unexplained| / |difference|, at least 0. Only
comparisons with planted latency have one.

ERROR: of every finding on latency with a prediction and a measurement, |predicted point - measurement| (of a range
without a point, its middle) in
percent of the latency that was changed (`a` of the prediction). Relative figures are logarithms of ratios.

POINTS: of those predictions among them that are a point, claim a part of the difference, and were run where the
difference was reproduced: the error in percent, and in standard errors of prediction and measurement. Where these are
right, the latter come to 1 (root mean square). The suite fails outside of 0.6 to 1.7: where all of them are twice or
half as large as they should be. It fails as well where a run of all cases has less than ten of them: a range without a
point, which tells no more than a direction, is none.

SAME MODEL: `same` of the comparison's `sameness` must equal the case's; where either is absent, nothing is judged.

CLOSED: the rows of every decomposition add up to its difference within a hundredth of a microsecond.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

from case import Case, Planted

TOLERANCE = 0.25
POINTS = 0.5
CLOSED_US = 0.01
SCORES = ("AP", "AP50", "score", "accuracy", "top-1", "perplexity")
#: Those that a finding may claim a part of a difference of.
FIGURES = ("latency", "score", "not_finite")
CONSEQUENCES = ("neighbourhood", "between the ops")


def judge(case: Case, truth: dict[str, Any], findings: dict[str, Any]) -> dict[str, Any]:
    """What was found of the case, by the rules above."""
    things = []
    for planted, measured in zip(case.planted, truth["pairs"], strict=True):
        by_row = _row(planted, measured, case, findings)
        by_finding = [item["status"] for _, item in _findings(findings, planted, case) if _names(planted, item)]
        said = planted.figure in ("environment", "baseline") and _said(planted, findings)
        things.append(
            {
                "figure": planted.figure,
                "words": planted.words,
                "truth": measured,
                "established": _established(planted, measured),
                "named": by_row is not None or bool(by_finding) or said,
                "by": [*(["row"] if by_row is not None else []), *by_finding, *(["text"] if said else [])],
                "row_delta_us": by_row,
                "confirmed": "confirmed" in by_finding,
            }
        )
    return {
        "name": case.name,
        "planted": things,
        "false": list(_false(case, truth, findings)),
        "share": _share(case, findings),
        "errors": list(_errors(findings)),
        "points": list(_points(findings)),
        "same_model": _same_model(case, findings),
        "closed": _closed(findings),
        "said": list(_headlines(findings)),
    }


def _established(planted: Planted, truth: dict[str, Any]) -> bool:
    if "points" in truth:
        return bool(truth["points"] * planted.direction > POINTS)
    signed = planted.direction * math.log(truth["ratio"])
    if signed < 0:
        return False
    low, high = truth.get("low", truth["ratio"]), truth.get("high", truth["ratio"])
    return not low <= 1 <= high


def _comparisons(findings: dict[str, Any], variant: str = "") -> list[dict[str, Any]]:
    return [item for item in findings.get("comparisons", []) if not variant or item["variant"] == variant]


def _findings(
    findings: dict[str, Any], planted: Planted, case: Case
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    everywhere = planted.figure in ("environment", "baseline")
    for comparison in _comparisons(findings, "" if everywhere else planted.variant):
        for item in comparison["findings"]:
            if item["status"] != "refuted":
                yield comparison, item


def _hypothesis(item: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = item.get("hypothesis") or item
    return found


def _field(item: dict[str, Any], key: str) -> Any:
    return item.get(key) or _hypothesis(item).get(key)


def _text(item: dict[str, Any]) -> str:
    hypothesis = _hypothesis(item)
    does = (hypothesis.get("intervention") or {}).get("does", "")
    cause = str(hypothesis.get("cause", "")).replace("_", " ")
    return f"{cause} {hypothesis.get('claim', '')} {does}"


def _op_texts(item: dict[str, Any]) -> list[str]:
    ops = _field(item, "ops") or []
    return [f"{op.get('type', '')} {op.get('name', '')}" if isinstance(op, dict) else str(op) for op in ops]


def _holds(patterns: Sequence[str], text: str) -> bool:
    return any(re.search(pattern, text, re.IGNORECASE) for pattern in patterns)


def _figure(item: dict[str, Any]) -> str:
    figure = str(_hypothesis(item).get("figure", ""))
    return "score" if figure in SCORES else figure


def _names(planted: Planted, item: dict[str, Any]) -> bool:
    if planted.figure in FIGURES and _figure(item) != planted.figure:
        return False
    if planted.figure == "latency" and _hypothesis(item).get("effect") is None:
        return False
    if not _holds(planted.words, _text(item)):
        return False
    return not planted.ops or _holds(planted.ops, " ".join([_text(item), *_op_texts(item)]))


def _row(planted: Planted, truth: dict[str, Any], case: Case, findings: dict[str, Any]) -> float | None:
    """The amount of the row that holds the planted thing, where it agrees with the truth."""
    if planted.figure != "latency" or "delta_us" not in truth:
        return None
    for comparison in _comparisons(findings, planted.variant):
        for row in (comparison.get("decomposition") or {}).get("rows", []):
            if row["mechanism"] not in planted.mechanisms:
                continue
            ops = row.get("ops") or []
            own = [op for op in ops if _holds(planted.ops, f"{op.get('type', '')} {op.get('name', '')}")]
            amounts = [sum(op["delta_us"] for op in own)] if own else []
            held = sum(abs(op["delta_us"]) for op in own) >= 0.5 * sum(abs(op["delta_us"]) for op in ops)
            if not planted.ops or (own and held):
                amounts.append(row["delta_us"]["value"])
            for amount in amounts:
                if abs(amount - truth["delta_us"]) <= _allowed_us(truth):
                    return float(amount)
    return None


def _allowed_us(truth: dict[str, Any]) -> float:
    """How far an amount may lie from the truth: what was measured within a percent cannot be met more closely."""
    half = (truth["high"] - truth["low"]) / 2 * truth["absent_us"]
    return float(max(TOLERANCE * abs(truth["delta_us"]), half))


def _texts(findings: dict[str, Any]) -> Iterator[str]:
    for key in ("plausibility", "doubts", "notes"):
        for item in findings.get(key) or []:
            yield item if isinstance(item, str) else json.dumps(item)
    for audit in findings.get("audits") or []:
        if not audit.get("passed", True):
            yield str(audit.get("says", ""))
    for comparison in _comparisons(findings):
        for key in ("plausibility", "doubts"):
            for item in comparison.get(key) or []:
                yield item if isinstance(item, str) else json.dumps(item)


def _said(planted: Planted, findings: dict[str, Any]) -> bool:
    return any(_holds(planted.words, text) for text in _texts(findings))


def _false(case: Case, truth: dict[str, Any], findings: dict[str, Any]) -> Iterator[str]:
    for comparison in _comparisons(findings):
        for item in comparison["findings"]:
            effect = (_hypothesis(item).get("effect") or {}).get("value")
            if item["status"] != "confirmed" or effect is None or _figure(item) not in FIGURES:
                continue
            why = _contradiction(case, truth, comparison, item, float(effect))
            if why:
                yield f"{why}: {_hypothesis(item).get('cause')}: {_hypothesis(item).get('claim')}"


def _contradiction(
    case: Case, truth: dict[str, Any], comparison: dict[str, Any], item: dict[str, Any], effect: float
) -> str | None:
    figure = _figure(item)
    if any(p.figure in ("environment", "baseline") and _names(p, item) for p in case.planted):
        return None
    here = [
        (planted, measured)
        for planted, measured in zip(case.planted, truth["pairs"], strict=True)
        if planted.figure == figure
        and planted.variant in ("", comparison["variant"])
        and planted.phase in ("", comparison.get("phase"))
    ]
    if not here:
        return f"no {figure} is planted"
    mechanism = _field(item, "mechanism")
    if figure == "latency" and mechanism in CONSEQUENCES:
        return None
    matching = [(p, m) for p, m in here if _matches(p, item, mechanism if figure == "latency" else None)]
    if not matching:
        return "contradicts what is planted"
    for _, measured in matching:
        true = measured["delta_us"] if figure == "latency" else measured["points"] / 100
        if effect * true > 0 and abs(effect) <= 2 * abs(true):
            return None
    return "of another sign or size than the truth"


def _matches(planted: Planted, item: dict[str, Any], mechanism: str | None) -> bool:
    ops = _op_texts(item)
    if ops and planted.ops and not any(_holds(planted.ops, text) for text in ops):
        return False
    if mechanism:
        return mechanism in planted.mechanisms
    return _names(planted, item)


def _share(case: Case, findings: dict[str, Any]) -> float | None:
    variants = {planted.variant for planted in case.planted if planted.figure == "latency"}
    shares = []
    for comparison in _comparisons(findings):
        if not variants & {"", comparison["variant"]}:
            continue
        made = comparison.get("decomposition")
        difference = comparison.get("difference_us") or {}
        if made and made.get("share_explained") is not None:
            shares.append(float(made["share_explained"]))
        elif difference.get("value") and comparison.get("unexplained_us") is not None:
            shares.append(max(0.0, 1 - abs(comparison["unexplained_us"]) / abs(difference["value"])))
    return sum(shares) / len(shares) if shares else None


def _errors(findings: dict[str, Any]) -> Iterator[float]:
    latencies = {item["variant"]: item["latency_us"] for item in findings.get("candidates") or []}
    for comparison in _comparisons(findings):
        for item in comparison["findings"]:
            prediction = (_hypothesis(item).get("intervention") or {}).get("prediction") or {}
            measured = (item.get("measured") or {}).get("value")
            if prediction.get("figure") != "latency" or measured is None or prediction.get("low") is None:
                continue
            if prediction.get("relative"):
                middle = (math.exp(prediction["low"]) + math.exp(prediction["high"])) / 2
                middle = middle if prediction.get("value") is None else math.exp(prediction["value"])
                yield 100 * abs(middle - math.exp(measured))
            elif prediction["a"] in latencies:
                middle = (prediction["low"] + prediction["high"]) / 2
                middle = middle if prediction.get("value") is None else prediction["value"]
                yield 100 * abs(middle - measured) / latencies[prediction["a"]]


def _points(findings: dict[str, Any]) -> Iterator[dict[str, float]]:
    """Of every prediction of a part of a latency's difference that was a point and was run in a run that reproduced the
    difference: how far the measurement lay from it in percent of the latency, and in standard errors of the two."""
    for comparison in _comparisons(findings):
        for item in comparison["findings"]:
            hypothesis, measured = _hypothesis(item), item.get("measured") or {}
            prediction = (hypothesis.get("intervention") or {}).get("prediction") or {}
            if prediction.get("value") is None or not prediction.get("relative") or hypothesis.get("effect") is None:
                continue
            if measured.get("low") is None or (item.get("control") or {}).get("outcome") != "reproduced":
                continue
            off = measured["value"] - prediction["value"]
            halves = (prediction["high"] - prediction["low"]) / 2, (measured["high"] - measured["low"]) / 2
            percent = 100 * abs(math.exp(measured["value"]) - math.exp(prediction["value"]))
            yield {"percent": percent, "errors": off / (math.hypot(*halves) / 1.96)}


def _same_model(case: Case, findings: dict[str, Any]) -> bool | None:
    said = [made["same"] for comparison in _comparisons(findings) if (made := comparison.get("sameness")) is not None]
    return all(value == case.same_model for value in said) if said and case.same_model is not None else None


def _closed(findings: dict[str, Any]) -> bool | None:
    made = [found for comparison in _comparisons(findings) if (found := comparison.get("decomposition"))]
    return all(_gap_us(found) <= CLOSED_US for found in made) if made else None


def _gap_us(decomposition: dict[str, Any]) -> float:
    difference = decomposition["difference_us"]
    whole = difference["value"] if isinstance(difference, dict) else difference
    return abs(sum(row["delta_us"]["value"] for row in decomposition["rows"]) - float(whole))


def _headlines(findings: dict[str, Any]) -> Iterator[str]:
    for comparison in _comparisons(findings):
        for item in comparison["findings"]:
            if item["status"] != "refuted":
                yield f"{item['status']} {_hypothesis(item).get('cause')}: {_hypothesis(item).get('claim')}"
