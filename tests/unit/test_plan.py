"""The plan of a run: everything is run, paired by round, and the same for the same seed."""

from __future__ import annotations

from collections import Counter, defaultdict

from hypothesis import given
from hypothesis import strategies as st

from qprof.measure.plan import WHOLE_SET, plan_blocks, round_samples, warmup_number

SIZES = {"variants": st.integers(1, 6), "rounds": st.integers(1, 25), "samples": st.integers(1, 200)}


@given(**SIZES, profiled=st.booleans(), seed=st.integers(0, 2**32))
def test_every_round_holds_every_variant_once_of_each_kind(
    variants: int, rounds: int, samples: int, profiled: bool, seed: int
) -> None:
    blocks = plan_blocks(variants, rounds, samples, profiled, seed)
    kinds = ["clean", "profiled"] if profiled else ["clean"]
    wanted = {(r, v, k): 1 for r in range(rounds) for v in range(variants) for k in kinds}
    assert Counter((b.round, b.variant, b.kind) for b in blocks) == Counter(wanted)
    assert [b.number for b in blocks] == list(range(len(blocks)))
    assert [b.round for b in blocks] == sorted(b.round for b in blocks)
    warm_ups = {warmup_number(v, phase, variants, blocks) for v in range(variants) for phase in (0, 1)}
    assert warm_ups.isdisjoint(b.number for b in blocks)
    assert len(warm_ups) == 2 * variants


@given(**SIZES)
def test_variants_are_paired_by_sample(variants: int, rounds: int, samples: int) -> None:
    members = defaultdict(set)
    for block in plan_blocks(variants, rounds, samples, True, 3):
        members[block.round].add(block.samples)
        assert block.samples
        assert len(set(block.samples)) == len(block.samples)
    assert all(len(found) == 1 for found in members.values())


@given(**SIZES)
def test_every_sample_is_run_and_kept_when_it_is_first_run(variants: int, rounds: int, samples: int) -> None:
    blocks = plan_blocks(variants, rounds, samples, True, 5)
    for variant in range(variants):
        seen: set[int] = set()
        kept: set[int] = set()
        for block in blocks:
            if block.variant != variant:
                continue
            if block.kind == "profiled":
                assert not block.keep
                continue
            new = set(block.samples) - seen
            assert block.keep == bool(new), block
            seen |= new
            kept |= set(block.samples) if block.keep else set()
        assert seen == kept == set(range(samples))


def test_small_sets_run_whole_and_larger_ones_are_spread() -> None:
    assert round_samples(0, 10, WHOLE_SET) == (tuple(range(16)), True)
    assert round_samples(7, 10, WHOLE_SET) == (tuple(range(16)), False)
    assert round_samples(0, 10, 17) == ((0, 1), True)
    assert round_samples(8, 10, 17) == ((16, 0), True)
    assert round_samples(9, 10, 17) == ((1, 2), False)
    assert round_samples(0, 1, 500) == (tuple(range(500)), True)


def test_small_plan_block_by_block() -> None:
    blocks = plan_blocks(variants=2, rounds=2, samples=1, profiled=True, seed=1)
    assert [(b.number, b.round, b.kind) for b in blocks] == [
        (0, 0, "clean"),
        (1, 0, "clean"),
        (2, 0, "profiled"),
        (3, 0, "profiled"),
        (4, 1, "clean"),
        (5, 1, "clean"),
        (6, 1, "profiled"),
        (7, 1, "profiled"),
    ]
    # ABBA: the second round runs in the reverse order of the first
    assert [b.variant for b in blocks[4:6]] == [b.variant for b in blocks[1::-1]]
    assert [b.variant for b in blocks[6:]] == [b.variant for b in blocks[3:1:-1]]


def test_blocks_with_resets_follow_the_profiled_ones_and_leave_the_others_as_they_were() -> None:
    plain, resetting = (plan_blocks(3, 6, 4, True, 9, resets=resets) for resets in (False, True))
    assert [b.kind for b in resetting if b.round == 0] == ["clean"] * 3 + ["profiled"] * 3 + ["reset"] * 3
    for kind in ("clean", "profiled"):
        orders = [[(b.round, b.variant) for b in blocks if b.kind == kind] for blocks in (plain, resetting)]
        assert orders[0] == orders[1]
    assert sorted({b.variant for b in resetting if b.kind == "reset"}) == [0, 1, 2]
    assert not any(b.keep for b in resetting if b.kind == "reset")


def test_without_profiling_nothing_is_reset() -> None:
    assert all(b.kind == "clean" for b in plan_blocks(3, 6, 4, False, 9, resets=True))


def test_plan_follows_from_the_seed_alone() -> None:
    plans = [plan_blocks(4, 8, 40, True, seed) for seed in (1, 1, 2)]
    assert plans[0] == plans[1]
    assert [b.variant for b in plans[0]] != [b.variant for b in plans[2]]


def test_without_profiling_the_clean_blocks_are_the_same() -> None:
    def order(profiled: bool) -> list[tuple[int, int]]:
        return [(b.round, b.variant) for b in plan_blocks(3, 6, 4, profiled, 9) if b.kind == "clean"]

    assert order(True) == order(False)
    assert all(b.kind == "clean" for b in plan_blocks(3, 6, 4, False, 9))


def test_profiled_blocks_have_an_order_of_their_own() -> None:
    def orders(kind: str) -> list[list[int]]:
        blocks = [b for b in plan_blocks(5, 10, 4, True, 9) if b.kind == kind]
        return [[b.variant for b in blocks if b.round == r] for r in range(10)]

    assert orders("clean") != orders("profiled")


def test_a_round_of_a_language_model_block_by_block() -> None:
    blocks = plan_blocks(2, 2, samples=3, profiled=True, seed=1, phases=("prefill", "decode"), scored=5)
    first = [b for b in blocks if b.round == 0]
    assert [(b.phase, b.kind) for b in first[::2]] == [
        ("prefill", "clean"),
        ("prefill", "profiled"),
        ("decode", "clean"),
        ("decode", "profiled"),
        ("prefill", "scored"),
    ]
    assert all({b.variant for b in first[i : i + 2]} == {0, 1} for i in range(0, 10, 2))
    assert [b.samples for b in blocks if b.kind == "scored"] == [(0, 1)] * 2 + [(2, 3, 4)] * 2
    assert [b.kind for b in blocks if b.keep] == ["scored"] * 4


@given(rounds=st.integers(1, 30), scored=st.integers(1, 500))
def test_every_scored_sample_is_predicted_once(rounds: int, scored: int) -> None:
    blocks = plan_blocks(2, rounds, 4, False, 7, ("prefill", "decode"), scored)
    for variant in (0, 1):
        shares = [b.samples for b in blocks if b.kind == "scored" and b.variant == variant]
        assert [sample for share in shares for sample in share] == list(range(scored))
        assert max(map(len, shares)) - min(map(len, shares)) <= 1 or scored < rounds


def test_predictions_without_passes_of_their_own_are_those_of_the_first_phase() -> None:
    blocks = plan_blocks(1, 3, samples=2, profiled=False, seed=1, phases=("prefill", "decode"))
    assert [(b.round, b.phase) for b in blocks if b.keep] == [(0, "prefill")]


def test_what_is_not_scored_runs_few_samples_a_block_spread_over_all_of_them() -> None:
    blocks = plan_blocks(3, 8, samples=300, profiled=False, seed=1, timed_alone=True)
    assert {len(block.samples) for block in blocks} == {WHOLE_SET} and not any(block.keep for block in blocks)
    run = sorted({sample for block in blocks for sample in block.samples})
    assert len(run) == 8 * WHOLE_SET and run[0] == 0 and run[-1] > 290
    for round_ in range(8):
        assert len({block.samples for block in blocks if block.round == round_}) == 1, "paired by sample"
    scored = plan_blocks(3, 8, samples=300, profiled=False, seed=1)
    assert {len(block.samples) for block in scored} == {38} and any(block.keep for block in scored)
    few = plan_blocks(3, 8, samples=100, profiled=False, seed=1, timed_alone=True)
    assert {sample for block in few for sample in block.samples} == set(range(100))


def test_a_small_set_is_spread_over_the_rounds_where_a_block_is_to_have_fewer() -> None:
    blocks = plan_blocks(2, 8, samples=4, profiled=False, seed=1, timed_alone=True, most_samples=1)
    assert [block.samples for block in blocks[::2]] == [(0,), (1,), (2,), (3,)] * 2
    assert all(len({block.samples for block in blocks if block.round == round_}) == 1 for round_ in range(8))
    scored = plan_blocks(2, 8, samples=4, profiled=False, seed=1, most_samples=1)
    assert {block.samples for block in scored} == {(0, 1, 2, 3)}, "what is predicted is of all samples"


def test_what_is_not_to_be_timed_is_run_once_beside_what_is_scored() -> None:
    known = {"variants": 2, "rounds": 4, "samples": 3, "profiled": False, "seed": 1, "phases": ("prefill", "decode")}
    blocks = plan_blocks(**known, scored=8, timed=False)  # type: ignore[arg-type]
    assert [(b.round, b.phase, b.kind) for b in blocks if b.variant == 0] == [
        (0, "prefill", "clean"),
        (0, "decode", "clean"),
        *((round_, "prefill", "scored") for round_ in range(4)),
    ]
    own = plan_blocks(**known, timed=False)  # type: ignore[arg-type]
    assert own == plan_blocks(**known), "what the clean blocks predict is scored"  # type: ignore[arg-type]
