"""The answer in three sentences, and what is to be known before it is believed."""

from __future__ import annotations

from collections.abc import Iterator

from qprof.findings.decomposition import MechanismRow
from qprof.findings.explanation import ComparisonFindings, Explanation
from qprof.report.causes import signed_duration, signed_interval
from qprof.report.distance import random_line
from qprof.report.doubts import doubt_lines
from qprof.report.explain import deployment_lines, trade_text
from qprof.report.page.data import Alarm, Answer
from qprof.report.page.data_tables import Fact
from qprof.report.page.sections.commands import Commands
from qprof.report.plausibility import calibration_lines, plausibility_lines
from qprof.store.run import Run

_DOUBT = "doubt: "


def answer(explanation: Explanation, commands: Commands) -> Answer:
    """What to deploy, what it gains and costs, and where the difference that matters most comes from."""
    lines = [line.strip() for line in deployment_lines(explanation)]
    chosen = explanation.choice.variant
    first = next((line for line in lines if line.startswith("deploy ")), None)
    told = [_sentence(first)] if first else [_sentence(line) for line in lines[:1]]
    deploy = next((one for one in explanation.candidates if one.variant == chosen), None)
    if deploy is not None and chosen != explanation.baseline:
        told.append(_sentence(f"Against {explanation.baseline}, {chosen} {trade_text(explanation, deploy)}"))
    elif deploy is not None:
        told.append(f"{chosen} is the baseline: no other variant is faster within these limits.")
    told += [why] if (why := _why(explanation)) else []
    return Answer(
        deploy=chosen,
        sentences=told,
        doubts=[line.removeprefix(_DOUBT) for line in lines if line.startswith(_DOUBT)]
        + [line for line in lines if line != first and not line.startswith(_DOUBT) and _sentence(line) not in told],
        trades=[Fact(name=one.variant, value=trade_text(explanation, one)) for one in explanation.candidates],
        command=commands.of("explain"),
    )


def _why(explanation: Explanation) -> str | None:
    """The largest row of the comparison that matters: that of the chosen variant where it differs for sure, else the
    largest of all that do."""
    known = [one for one in explanation.comparisons if one.decomposition is not None and one.difference_us is not None]
    equal = {(one.variant, one.figure) for one in explanation.verdicts if one.kind == "equivalent"}
    sure = [one for one in known if _is_sure(one) and not {(one.variant, name) for name in _figures(one)} & equal]
    own = [one for one in sure if one.variant == explanation.choice.variant]
    found = max(own or sure, key=_size, default=None)
    if found is None or found.decomposition is None or found.difference_us is None:
        return None
    row = _largest(found)
    where = "" if found.phase == "inference" else f" of {found.phase}"
    confirmed = next((one for one in found.findings if one.status == "confirmed"), None)
    proof = " (confirmed by an intervention)" if confirmed and confirmed.hypothesis.mechanism == row.mechanism else ""
    return (
        f"Of {signed_interval(found.difference_us)}{where} from {found.baseline} to {found.variant}, "
        f"{signed_duration(row.delta_us.value)} is {row.mechanism}: {row.sentence}{proof}."
    )


def _figures(found: ComparisonFindings) -> tuple[str, str]:
    """What the latency of a comparison may be called among the verdicts."""
    return "latency", f"{found.phase} latency"


def _is_sure(found: ComparisonFindings) -> bool:
    low, high = (found.difference_us.low, found.difference_us.high) if found.difference_us else (None, None)
    return low is not None and high is not None and not low <= 0.0 <= high


def _size(found: ComparisonFindings) -> float:
    return abs(found.difference_us.value) if found.difference_us is not None else 0.0


def _largest(found: ComparisonFindings) -> MechanismRow:
    assert found.decomposition is not None  # as chosen by the caller
    return max(found.decomposition.rows, key=lambda row: (row.mechanism != "unattributed", abs(row.delta_us.value)))


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith('.') else '.'}"


def alarms(run: Run, explanation: Explanation) -> Iterator[Alarm]:
    """What breaks the comparison first, then what speaks against its figures."""
    if not run.complete:
        yield Alarm(
            level="stop",
            title=f"This run is not finished ({run.manifest.status}): what follows rests on the part that is measured.",
            lines=[f"go on with qprof run --resume {run.name}"],
        )
    for entry in run.variants:
        if entry.failed:
            yield Alarm(level="doubt", title=f"{entry.name} failed: {entry.reason}")
    for level, lines in (
        ("stop", list(plausibility_lines(explanation.baseline, explanation.plausibility))),
        ("stop", [f"{one.baseline} and {one.variant} are not one model: {says}" for one, says in _unlike(explanation)]),
        ("doubt", list(calibration_lines(explanation.calibration))),
    ):
        yield from _blocks("stop" if level == "stop" else "doubt", lines)
    random = random_line(explanation.distances)
    for line in doubt_lines(explanation.doubts):
        yield Alarm(level="doubt", title=line.removeprefix("DOUBT").strip())
    if random:
        head, _, rest = random.partition("  ")
        yield Alarm(level="note", title=f"{head.capitalize()}: {rest.strip()}")
    for one in explanation.audits:
        if not one.passed:
            yield Alarm(level="doubt", title=f"{one.name}: {one.says}")


def _unlike(explanation: Explanation) -> Iterator[tuple[ComparisonFindings, str]]:
    seen = set()
    for one in explanation.comparisons:
        if one.sameness is not None and not one.sameness.same and one.variant not in seen:
            seen.add(one.variant)
            yield one, one.sameness.says


def _blocks(level: str, lines: list[str]) -> Iterator[Alarm]:
    """Lines that begin at the margin are titles; those that are indented stand below them."""
    title, below = "", list[str]()
    for line in [*lines, ""]:
        if line.startswith("  ") or (title and line[:1].islower()):
            below.append(line.strip())
            continue
        if title:
            yield Alarm(level="stop" if level == "stop" else "doubt", title=title, lines=below)
        title, below = line.strip(), []
