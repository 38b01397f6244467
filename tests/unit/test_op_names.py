"""Names as tables show them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from qprof.report.op_names import short_names


def test_the_first_of_fused_names_without_the_scope_most_share() -> None:
    names = ["net/a/Relu;net/a/conv", "net/b/Relu", "net/c", "other"]
    assert list(short_names(names).values()) == ["a/Relu", "b/Relu", "c", "other"]


def test_a_scope_of_half_the_names_or_fewer_stays() -> None:
    assert list(short_names(["net/a", "b", "net/c", "d"]).values()) == ["net/a", "b", "net/c", "d"]


def test_scopes_nest() -> None:
    assert list(short_names(["x/y/a", "x/y/b", "x/y/c"]).values()) == ["a", "b", "c"]


def test_names_that_would_look_alike_are_shown_in_full() -> None:
    assert list(short_names(["n/a;1", "n/a;2", "n/b"]).values()) == ["n/a;1", "n/a;2", "b"]


@given(st.lists(st.text(alphabet="ab/;", max_size=6)))
def test_shown_names_stay_apart(names: list[str]) -> None:
    shown = short_names(names)
    assert set(shown) == set(names)
    assert len(set(shown.values())) == len(set(names))
