"""Top-k scoring against plain NumPy and SciPy in float64 (and torch where it is installed), at every SIMD level."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from qprof.core import _topk
from qprof.errors import DataError
from qprof.tasks import topk

DTYPES = ("float32", "float16", "bfloat16")
TIES = ("first", "optimistic", "pessimistic")
LEVELS = _topk.simd_levels()
LOG_LIKELIHOOD_ERROR = 5e-7
ENTROPY_ERROR = 5e-6

#: Around the sizes of a vector, of a step of four and of a block, for each level.
SIZES = (1, 2, 7, 15, 16, 17, 31, 32, 33, 63, 64, 65, 1000, 4095, 4096, 4097, 4160, 8191, 12288, 50257)

dtypes = pytest.mark.parametrize("dtype", DTYPES)
levels = pytest.mark.parametrize("simd", LEVELS)


def stored(values: Any, dtype: str) -> NDArray[Any]:
    """Values as the core takes them; bfloat16 as bits, rounded to nearest even."""
    with np.errstate(over="ignore"):
        single = np.asarray(values, np.float32)
        if dtype != "bfloat16":
            return single.astype(dtype)
    bits = single.view(np.uint32)
    rounded = (bits + (np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1)))) >> np.uint32(16)
    return np.where(np.isnan(single), np.uint32(0x7FC0), rounded).astype(np.uint16)


def exact(logits: NDArray[Any], dtype: str) -> NDArray[np.float64]:
    """The values that are stored, in float64."""
    if dtype == "bfloat16":
        logits = (logits.astype(np.uint32) << np.uint32(16)).view(np.float32)
    with np.errstate(invalid="ignore"):  # NaN that signals
        return logits.astype(np.float64)


def oracle_rank(row: NDArray[np.float64], target: int, ties: str) -> int:
    ahead = sum(1 for logit in row.tolist() if logit > row[target])
    equal = [column for column, logit in enumerate(row.tolist()) if logit == row[target] and column != target]
    if ties == "first":
        equal = [column for column in equal if column < target]
    return ahead + (0 if ties == "optimistic" else len(equal))


def oracle_log_likelihood(row: NDArray[np.float64], target: int) -> float:
    from scipy.special import logsumexp

    highest = row.max() if np.isfinite(row.max()) else 0.0  # of large logits float64 itself would lose the fraction
    with np.errstate(invalid="ignore", divide="ignore"):
        return float((row[target] - highest) - logsumexp(row - highest))


def oracle_entropy(row: NDArray[np.float64]) -> float:
    from scipy.special import logsumexp

    if not np.isfinite(row.max()):
        return float("nan")
    finite = row[np.isfinite(row)] - row.max()
    logarithms = finite - logsumexp(finite)
    return float(-(np.exp(logarithms) * logarithms).sum())


def check(logits: NDArray[Any], targets: NDArray[Any], dtype: str, ties: str = "first", **options: Any) -> None:
    """Compare every figure of every row with the oracle."""
    k = (1, 2, 5, 100)
    scores = _topk.score(logits, targets, k=k, dtype=dtype, entropy=True, rank_ties=ties, **options)  # type: ignore[arg-type]
    values = exact(logits, dtype)
    ranks = np.array([oracle_rank(row, int(t), ties) for row, t in zip(values, targets, strict=True)], np.int64)
    np.testing.assert_array_equal(scores["rank"], ranks)
    np.testing.assert_array_equal(scores["hits"], ranks[:, None] < np.array(k))
    np.testing.assert_array_equal(scores["argmax"], values.argmax(axis=1))
    likelihoods = np.array([oracle_log_likelihood(row, int(t)) for row, t in zip(values, targets, strict=True)])
    np.testing.assert_allclose(scores["log_likelihood"], likelihoods, rtol=1e-13, atol=LOG_LIKELIHOOD_ERROR)
    np.testing.assert_allclose(scores["entropy"], [oracle_entropy(row) for row in values], rtol=0, atol=ENTROPY_ERROR)


def normal(rows: int, vocabulary: int, seed: int = 0, scale: float = 4.0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((rows, vocabulary), np.float32) * np.float32(scale)


def some_targets(rows: int, vocabulary: int) -> NDArray[np.int64]:
    """Both ends and places between."""
    targets = np.random.default_rng(1).integers(0, vocabulary, rows)
    targets[: min(2, rows)] = [0, vocabulary - 1][: min(2, rows)]
    return targets


@dtypes
@levels
@pytest.mark.parametrize("vocabulary", SIZES)
def test_all_figures_equal_the_oracle(dtype: str, simd: str, vocabulary: int) -> None:
    check(stored(normal(4, vocabulary), dtype), some_targets(4, vocabulary), dtype, simd=simd)


@dtypes
@levels
@pytest.mark.parametrize("ties", TIES)
@pytest.mark.parametrize("vocabulary", [5, 64, 100, 4096, 8300])
def test_ties(dtype: str, simd: str, ties: str, vocabulary: int) -> None:
    """A handful of values: the target equals others in its block, before and after it, and in other blocks."""
    logits = stored(np.random.default_rng(2).integers(-2, 3, (6, vocabulary)), dtype)
    check(logits, some_targets(6, vocabulary), dtype, ties, simd=simd)


@levels
def test_bfloat16_logits_tie_and_rank_zero_is_the_argmax(simd: str) -> None:
    """Real-looking logits: in bfloat16 nearly every target has equals, and each rule is at its place."""
    logits = stored(normal(200, 5000), "bfloat16")
    targets = exact(logits, "bfloat16").argmax(axis=1)
    targets[::2] = some_targets(100, 5000)
    first, optimistic, pessimistic = (
        _topk.score(logits, targets, dtype="bfloat16", rank_ties=ties, simd=simd)  # type: ignore[arg-type]
        for ties in TIES
    )
    assert (first["rank"] - optimistic["rank"] >= 0).all() and (pessimistic["rank"] - first["rank"] >= 0).all()
    assert (pessimistic["rank"] > optimistic["rank"])[::2].mean() > 0.9
    np.testing.assert_array_equal(first["rank"] == 0, first["argmax"] == targets)
    np.testing.assert_array_equal(first["hits"][:, 0], first["rank"] == 0)


@dtypes
@levels
def test_equal_logits_rank_by_index(dtype: str, simd: str) -> None:
    logits = np.broadcast_to(stored(np.full(300, 1.5), dtype), (300, 300))
    targets = np.arange(300)
    for ties, expected in {"first": targets, "optimistic": 0 * targets, "pessimistic": 0 * targets + 299}.items():
        scores = _topk.score(logits, targets, dtype=dtype, rank_ties=ties, simd=simd)  # type: ignore[arg-type]
        np.testing.assert_array_equal(scores["rank"], expected)
        np.testing.assert_array_equal(scores["argmax"], 0)


@dtypes
@levels
@pytest.mark.parametrize("ties", TIES)
def test_zeros_of_both_signs_are_equal(dtype: str, simd: str, ties: str) -> None:
    row = np.full(130, -0.0, np.float32)
    row[[3, 70, 129]] = 0.0
    row[5] = -1.0
    check(stored([row] * 3, dtype), np.array([0, 3, 129]), dtype, ties, simd=simd)


INFINITE_ROWS = {
    "one +inf, finite target": ([0, np.inf, 1], 0),
    "one +inf, the target": ([0, np.inf, 1], 1),
    "two +inf": ([np.inf, 0, np.inf], 2),
    "target at -inf": ([0, -np.inf, 1], 1),
    "-inf elsewhere": ([0, -np.inf, 1], 2),
    "-inf alone": ([-np.inf, -np.inf, -np.inf], 1),
    "a single -inf": ([-np.inf], 0),
    "a single +inf": ([np.inf], 0),
    "both": ([-np.inf, np.inf, 0], 0),
}


@dtypes
@levels
@pytest.mark.parametrize("ties", TIES)
@pytest.mark.parametrize("name", INFINITE_ROWS)
def test_infinite_logits_follow_ieee(dtype: str, simd: str, ties: str, name: str) -> None:
    values, target = INFINITE_ROWS[name]
    check(stored([values], dtype), np.array([target]), dtype, ties, simd=simd)
    # The same within a row of several blocks, filled up on either side.
    long = np.full((1, 9000), -np.inf if np.isneginf(values).all() else -3.0, np.float32)
    long[0, 5000 : 5000 + len(values)] = values
    check(stored(long, dtype), np.array([5000 + target]), dtype, ties, simd=simd)


@dtypes
@levels
@pytest.mark.parametrize("masked", [-np.inf, -65504.0, -1e4])
def test_masked_vocabulary(dtype: str, simd: str, masked: float) -> None:
    values = np.full((3, 10000), masked, np.float32)
    values[:, 6000:6100] = normal(3, 100)
    values[2] = np.roll(values[2], -6000)
    check(stored(values, dtype), np.array([6003, 0, 9999]), dtype, simd=simd)


@dtypes
@levels
@pytest.mark.parametrize("offset", [-60000.0, -1000.0, -256.0, -255.0, 100.0, 255.9, 256.0, 257.0, 5000.0, 60000.0])
def test_logits_of_any_size(dtype: str, simd: str, offset: float) -> None:
    values = normal(3, 5000, scale=30) + np.float32(offset)
    check(stored(values, dtype), some_targets(3, 5000), dtype, simd=simd)


@levels
@pytest.mark.parametrize("offset", [1e6, -1e6, 1e8, 3e38, -3e38])
def test_float32_logits_near_the_ends_of_the_range(simd: str, offset: float) -> None:
    steps = np.random.default_rng(3).integers(-40, 5, 9000).astype(np.float32)
    values = np.float32(offset) + steps * max(np.spacing(np.float32(abs(offset))), np.float32(0.5))
    both = np.stack([values, np.where(steps > 3, -values, values)])
    check(both, np.array([0, 8999]), "float32", simd=simd)
    check(both, both.argmax(axis=1), "float32", simd=simd)


@levels
@pytest.mark.parametrize("step", [0.001, 0.01, 1.0])
@pytest.mark.parametrize("start", [-200.0, 0.0])
def test_maximum_that_keeps_rising(simd: str, step: float, start: float) -> None:
    """The reference has to move up, from a target far below and from none (a target at -inf)."""
    row = np.float32(start) + np.arange(20000, dtype=np.float32) * np.float32(step)
    falling = row[::-1].copy()
    hidden = row.copy()
    hidden[17] = -np.inf
    check(np.stack([row, falling, hidden]), np.array([0, 19999, 17]), "float32", simd=simd)


@dtypes
@levels
def test_log_likelihood_of_equal_logits(dtype: str, simd: str) -> None:
    """All rounding errors of a row are the same one here: nothing averages out."""
    logits = stored(np.repeat(np.linspace(-30, 30, 997, dtype=np.float32)[:, None], 2048, axis=1), dtype)
    scores = _topk.score(logits, np.zeros(997, np.int64), dtype=dtype, entropy=True, simd=simd)
    np.testing.assert_allclose(scores["log_likelihood"], -np.log(2048), rtol=0, atol=LOG_LIKELIHOOD_ERROR)
    np.testing.assert_allclose(scores["entropy"], np.log(2048), rtol=0, atol=ENTROPY_ERROR)


@levels
def test_log_likelihood_of_two_logits_over_the_whole_range_of_differences(simd: str) -> None:
    difference = np.linspace(-60, 60, 40001, dtype=np.float32)
    logits = np.stack([np.full_like(difference, 0.3), difference], axis=1)
    scores = _topk.score(logits, np.zeros(len(difference), np.int64), simd=simd)
    exact_differences = logits[:, 1].astype(np.float64) - logits[:, 0]
    expected = -np.logaddexp(0, exact_differences)
    np.testing.assert_allclose(scores["log_likelihood"], expected, rtol=0, atol=LOG_LIKELIHOOD_ERROR)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@levels
def test_every_16_bit_number_is_read_as_what_it_is(dtype: str, simd: str) -> None:
    """A row of all 65,536 patterns but NaN, subnormals and infinities among them."""
    patterns = np.arange(65536, dtype=np.uint16)
    numbers = exact(patterns.view(np.float16) if dtype == "float16" else patterns, dtype)
    row = patterns[~np.isnan(numbers)]
    numbers = numbers[~np.isnan(numbers)]
    targets = np.unique(np.concatenate([np.arange(0, len(row), 97), np.arange(40), np.arange(1010, 1040)]))
    logits = np.broadcast_to(row.view(np.float16) if dtype == "float16" else row, (len(targets), len(row)))
    scores = _topk.score(logits, targets, dtype=dtype, rank_ties="optimistic", log_likelihood=False, simd=simd)
    expected = len(numbers) - np.searchsorted(np.sort(numbers), numbers[targets], side="right")
    np.testing.assert_array_equal(scores["rank"], expected)
    np.testing.assert_array_equal(scores["argmax"], numbers.argmax())


@dtypes
@levels
@pytest.mark.parametrize("log_likelihood", [True, False])
@pytest.mark.parametrize("column", [0, 1, 16, 63, 64, 4095, 4096, 8191, 8192, 8199])
def test_nan_is_an_error_that_names_its_place(dtype: str, simd: str, log_likelihood: bool, column: int) -> None:
    logits = stored(normal(9, 8200), dtype)
    bits = logits.view(np.uint32 if dtype == "float32" else np.uint16)
    positive, signaling = {
        "float32": (0x7FC00000, 0xFF800001),
        "float16": (0x7E00, 0xFC01),
        "bfloat16": (0x7FC0, 0xFF81),
    }[dtype]
    for pattern in (positive, signaling):
        bits[5, column] = pattern
        bits[7, :] = pattern
        for threads in (1, 3):
            with pytest.raises(ValueError, match=rf"^row 5: the logit of column {column} is NaN$"):
                _topk.score(
                    logits,
                    some_targets(9, 8200),
                    dtype=dtype,
                    log_likelihood=log_likelihood,
                    threads=threads,
                    simd=simd,
                )


@levels
@pytest.mark.parametrize("target", [-1, -100, 300, 2**62, -(2**63)])
def test_target_out_of_range_is_an_error_that_names_the_first_row(simd: str, target: int) -> None:
    logits = normal(5000, 300)
    targets = some_targets(5000, 300)
    targets[[4321, 4999]] = target, 300
    logits[4400, 3] = np.nan
    for threads in (1, 2, 5):
        with pytest.raises(ValueError, match=rf"^row 4321: the target {target} is not in the vocabulary \(0 to 299\)$"):
            _topk.score(logits, targets, threads=threads, simd=simd)


@levels
def test_the_first_faulty_row_is_named_though_a_later_one_is_met_before_it(simd: str) -> None:
    """Threads take 2^20 logits at a time: one meets its fault at once, the other at the end of its rows."""
    targets = np.zeros(4096, np.int64)
    targets[[1023, 1024, 2048, 3072]] = -1
    logits = np.broadcast_to(normal(1, 1024), (4096, 1024))
    for _ in range(5):
        with pytest.raises(ValueError, match=r"^row 1023: "):
            _topk.score(logits, targets, threads=4, simd=simd)


@dtypes
@levels
def test_rows_may_lie_anywhere(dtype: str, simd: str) -> None:
    wide = stored(normal(12, 700), dtype)
    targets = some_targets(12, 130)
    check(wide[:, 33:163], targets, dtype, simd=simd)
    check(wide[::-3, 1:131], targets[:4], dtype, simd=simd)
    check(np.broadcast_to(wide[2, :130], (12, 130)), targets, dtype, simd=simd)
    check(wide[:, 5:6], np.zeros(12, np.int64), dtype, simd=simd)
    raw = bytearray(wide.nbytes + 1)
    raw[1:] = wide.tobytes()
    unaligned = np.frombuffer(raw, wide.dtype, wide.size, offset=1).reshape(wide.shape)
    assert not unaligned.flags.aligned
    check(unaligned, some_targets(12, 700), dtype, simd=simd)


@dtypes
@levels
def test_logits_are_neither_changed_nor_needed_writable(dtype: str, simd: str) -> None:
    logits = stored(normal(3, 4200), dtype)
    before = logits.copy()
    logits.flags.writeable = False
    check(logits, some_targets(3, 4200), dtype, simd=simd)
    np.testing.assert_array_equal(logits, before)


@levels
def test_no_rows_and_no_vocabulary(simd: str) -> None:
    scores = _topk.score(np.empty((0, 7), np.float32), np.empty(0, np.int64), entropy=True, simd=simd)
    assert {name: array.shape for name, array in scores.items()} == {
        "rank": (0,),
        "hits": (0, 2),
        "argmax": (0,),
        "log_likelihood": (0,),
        "entropy": (0,),
    }
    with pytest.raises(ValueError, match="row 0: the target 0 is not in the vocabulary"):
        _topk.score(np.empty((2, 0), np.float32), np.zeros(2, np.int64), simd=simd)


@dtypes
@levels
def test_threads_change_nothing(dtype: str, simd: str) -> None:
    logits = stored(normal(700, 4100), dtype)
    targets = some_targets(700, 4100)
    alone = _topk.score(logits, targets, dtype=dtype, entropy=True, simd=simd)
    for threads in (2, 3, 64):
        together = _topk.score(logits, targets, dtype=dtype, entropy=True, threads=threads, simd=simd)
        for name, array in alone.items():
            np.testing.assert_array_equal(together[name], array)


@levels
def test_only_what_was_asked_for_is_given(simd: str) -> None:
    logits, targets = normal(5, 100), some_targets(5, 100)
    alone = _topk.score(logits, targets, log_likelihood=False, simd=simd)
    assert set(alone) == {"rank", "hits", "argmax"}
    entropy = _topk.score(logits, targets, log_likelihood=False, entropy=True, simd=simd)
    assert set(entropy) == {"rank", "hits", "argmax", "entropy"}
    everything = _topk.score(logits, targets, entropy=True, simd=simd)
    for scores in (alone, entropy):
        for name, array in scores.items():
            np.testing.assert_array_equal(array, everything[name])


@levels
def test_hits_of_any_k(simd: str) -> None:
    logits, targets = normal(50, 100), some_targets(50, 100)
    scores = _topk.score(logits, targets, k=[100, 3, 10**6, 1], simd=simd)
    np.testing.assert_array_equal(scores["hits"], scores["rank"][:, None] < np.array([100, 3, 10**6, 1]))
    assert scores["hits"][:, [0, 2]].all() and not scores["hits"][:, 3].all()
    assert _topk.score(logits, targets, k=(), simd=simd)["hits"].shape == (50, 0)


FINITE = st.floats(-80, 80, width=16)
ANY_NUMBER = st.floats(allow_nan=False, width=16) | st.sampled_from([0.0, -0.0, 1.0, np.inf, -np.inf])


@st.composite
def cases(draw: st.DrawFn) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Few distinct values, repeated in any order over up to three steps of the widest kernel."""
    rows = draw(st.integers(1, 3))
    vocabulary = draw(st.integers(1, 200))
    palette = draw(st.lists(draw(st.sampled_from([FINITE, ANY_NUMBER])), min_size=1, max_size=12))
    choice = np.random.default_rng(draw(st.integers(0, 2**32 - 1))).integers(0, len(palette), (rows, vocabulary))
    targets = draw(st.lists(st.integers(0, vocabulary - 1), min_size=rows, max_size=rows))
    return np.array(palette, np.float32)[choice], np.array(targets, np.int64)


@levels
@given(case=cases(), dtype=st.sampled_from(DTYPES), ties=st.sampled_from(TIES), threads=st.integers(1, 3))
@settings(max_examples=150, deadline=None)
def test_any_logits_equal_the_oracle(
    simd: str, case: tuple[NDArray[np.float32], NDArray[np.int64]], dtype: str, ties: str, threads: int
) -> None:
    check(stored(case[0], dtype), case[1], dtype, ties, threads=threads, simd=simd)


@levels
@given(data=st.binary(min_size=4, max_size=3000), columns=st.integers(1, 300), dtype=st.sampled_from(DTYPES))
@settings(max_examples=150, deadline=None)
def test_any_bytes_give_scores_or_name_a_nan(simd: str, data: bytes, columns: int, dtype: str) -> None:
    carrier = {"float32": np.float32, "float16": np.float16, "bfloat16": np.uint16}[dtype]
    flat = np.frombuffer(data, carrier, len(data) // np.dtype(carrier).itemsize)
    columns = min(columns, flat.size)
    logits = flat[: flat.size // columns * columns].reshape(-1, columns)
    targets = np.arange(len(logits)) % columns
    has_nan = np.isnan(exact(logits, dtype))
    if has_nan.any():
        row, column = np.argwhere(has_nan)[0]
        with pytest.raises(ValueError, match=rf"^row {row}: the logit of column {column} is NaN$"):
            _topk.score(logits, targets, dtype=dtype, simd=simd)
    else:
        check(logits, targets, dtype, simd=simd)


BAD_INPUT: dict[str, tuple[dict[str, Any], str]] = {
    "float64": ({"logits": np.zeros((2, 3))}, "dtype has to be one of float32, float16, bfloat16, not float64"),
    "bits without dtype": ({"logits": np.zeros((2, 3), np.uint16)}, "dtype has to be one of"),
    "dtype and array differ": ({"dtype": "bfloat16"}, "bfloat16 have to be an array of uint16, not float32"),
    "other byte order": ({"logits": np.zeros((2, 3), ">f4")}, "have to be an array of float32, not >f4"),
    "one dimension": ({"logits": np.zeros(3, np.float32)}, r"\[rows, vocabulary\], not of shape \(3,\)"),
    "column by column": ({"logits": np.zeros((3, 2), np.float32).T}, "contiguous, not 8 bytes apart"),
    "backward": ({"logits": np.zeros((2, 3), np.float32)[:, ::-1]}, "contiguous, not -4 bytes apart"),
    "too few targets": ({"targets": np.zeros(1, np.int64)}, "2 rows of logits but 1 targets"),
    "targets of floats": ({"targets": np.zeros(2)}, "targets have to be .* not float64"),
    "targets of bools": ({"targets": np.zeros(2, bool)}, "targets have to be .* not bool"),
    "targets in a table": ({"targets": np.zeros((2, 1), np.int64)}, r"targets have to be .* of shape \(2, 1\)"),
    "k of 0": ({"k": (1, 0)}, r"k has to hold whole numbers from 1 on, not \(1, 0\)"),
    "k of a half": ({"k": (1.5,)}, "k has to hold whole numbers"),
    "k beyond 64 bits": ({"k": (10**30,)}, "k has to hold whole numbers"),
    "no threads": ({"threads": 0}, "threads has to be from 1 to 4096, not 0"),
    "unknown ties": ({"rank_ties": "mean"}, "rank_ties has to be one of first, optimistic, pessimistic, not mean"),
    "unknown level": ({"simd": "sse9"}, "simd has to be one of baseline, avx2, avx512, not sse9"),
}


@pytest.mark.parametrize("name", BAD_INPUT)
def test_bad_input_is_refused(name: str) -> None:
    changes, message = BAD_INPUT[name]
    arguments = {"logits": np.zeros((2, 3), np.float32), "targets": np.zeros(2, np.int64), **changes}
    with pytest.raises(ValueError, match=message):
        _topk.score(**arguments)


def test_levels_start_at_the_baseline() -> None:
    assert LEVELS[0] == "baseline"
    assert [level for level in ("baseline", "avx2", "avx512") if level in LEVELS] == LEVELS


def test_score_of_arrays() -> None:
    logits = np.array([[1, 3, 2], [5, 5, 0], [0, 1, 2]], np.float16)
    scores = topk.score(logits, [1, 1, 0], k=(1, 2), entropy=True)
    assert scores.rank.tolist() == [0, 1, 2]
    assert scores.hits.tolist() == [[True, True], [False, True], [False, False]]
    assert scores.argmax.tolist() == [1, 0, 2]
    assert scores.log_likelihood is not None and scores.entropy is not None
    assert scores.log_likelihood[0] == pytest.approx(3 - np.log(np.exp([1, 3, 2]).sum()), abs=LOG_LIKELIHOOD_ERROR)
    assert scores.entropy[1] == pytest.approx(oracle_entropy(np.array([5.0, 5.0, 0.0])), abs=ENTROPY_ERROR)
    assert [scores.accuracy(k) for k in (1, 2, 3)] == [1 / 3, 2 / 3, 1.0]
    bare = topk.score(logits, [1, 1, 0], log_likelihood=False, rank_ties="optimistic", threads=1)
    assert bare.rank.tolist() == [0, 0, 2] and bare.log_likelihood is None and bare.entropy is None
    assert bare.k == (1, 5)


def test_accuracy_of_no_rows_is_none() -> None:
    empty = topk.score(np.empty((0, 5), np.float32), np.empty(0, np.int64))
    assert empty.accuracy(1) is None
    with pytest.raises(DataError, match="k starts at 1"):
        empty.accuracy(0)


def test_bfloat16_of_ml_dtypes() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    values = normal(6, 100)
    scores = topk.score(values.astype(ml_dtypes.bfloat16), some_targets(6, 100))
    bits = _topk.score(stored(values, "bfloat16"), some_targets(6, 100), dtype="bfloat16")
    np.testing.assert_array_equal(scores.log_likelihood, bits["log_likelihood"])


@pytest.mark.parametrize(
    ("logits", "targets", "message"),
    [
        (np.zeros((2, 3)), [0, 0], "logits of float64 cannot be scored; convert them to float32"),
        (np.zeros((2, 3), np.uint16), [0, 0], "logits of uint16 cannot be scored"),
        ([[0.5, 1.0]], [0], "logits of float64 cannot be scored"),
        (np.zeros((2, 3), np.float32), [0, 3], "top-k scoring: row 1: the target 3 is not in the vocabulary"),
        (np.array([[0, np.nan]], np.float32), [0], "top-k scoring: row 0: the logit of column 1 is NaN"),
        (np.zeros((2, 2, 3), np.float32), [0, 0], r"not of shape \(2, 2, 3\)"),
    ],
)
def test_bad_data_is_a_data_error(logits: Any, targets: Any, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        topk.score(logits, targets)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["float32", "float16", "bfloat16"])
def test_torch_tensors_score_as_torch_scores_them(name: str) -> None:
    torch = pytest.importorskip("torch")
    logits = torch.from_numpy(normal(64, 4999)).to(getattr(torch, name)).requires_grad_()
    targets = torch.from_numpy(some_targets(64, 4999))
    scores = topk.score(logits, targets, k=(1, 5, 50))
    wide = logits.detach().double()
    own = wide.gather(1, targets[:, None])
    assert scores.rank.tolist() == oracle_ranks_of(wide.numpy(), targets.numpy())
    expected = torch.log_softmax(wide, dim=1).gather(1, targets[:, None])[:, 0].numpy()
    assert scores.log_likelihood is not None
    np.testing.assert_allclose(scores.log_likelihood, expected, rtol=0, atol=LOG_LIKELIHOOD_ERROR)
    for position, k in enumerate((1, 5, 50)):
        # Where the k-th value ties, torch.topk takes any of those that equal it: compare the rows where it does not.
        values, indices = torch.topk(wide, k + 1, dim=1)
        clear = (values[:, k - 1] != values[:, k]) | (own[:, 0] != values[:, k])
        hit = (indices[:, :k] == targets[:, None]).any(dim=1)
        assert clear.sum() > 32
        np.testing.assert_array_equal(scores.hits[clear.numpy(), position], hit[clear].numpy())


def oracle_ranks_of(values: NDArray[np.float64], targets: NDArray[np.int64]) -> list[int]:
    return [oracle_rank(row, int(target), "first") for row, target in zip(values, targets, strict=True)]


def test_torch_views_are_not_copied_and_others_are_refused() -> None:
    torch = pytest.importorskip("torch")
    wide = torch.zeros(4, 100, dtype=torch.bfloat16)
    wide[:, 7] = 3
    array, dtype = topk._logits(wide[:, 5:50])
    assert dtype == "bfloat16" and array.ctypes.data == wide.data_ptr() + 10
    assert topk.score(wide[:, 5:50], torch.zeros(4, dtype=torch.int32)).argmax.tolist() == [2] * 4
    for refused in (torch.zeros(4, 100, device="meta"), torch.zeros(4, 100).to_sparse()):
        with pytest.raises(DataError, match="pass a dense one on the CPU"):
            topk.score(refused, [0] * 4)
    with pytest.raises(DataError, match="logits of float64 cannot be scored"):
        topk.score(wide.double(), [0] * 4)


@levels
def test_flushed_subnormals_of_the_caller_change_nothing(simd: str) -> None:
    torch = pytest.importorskip("torch")
    logits = np.array([[1e-40, 3e-40, 2e-40, 0.0]], np.float32)
    if not torch.set_flush_denormal(True):
        pytest.skip("this CPU cannot flush subnormals")
    try:
        scores = _topk.score(logits, np.array([2]), simd=simd)
    finally:
        torch.set_flush_denormal(False)
    assert scores["rank"].tolist() == [1] and scores["argmax"].tolist() == [1]
