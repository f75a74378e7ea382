"""The timing core, with calls whose duration is known."""

import gc
import time

from deconvkit import timing


def test_every_candidate_is_called_in_turn() -> None:
    order: list[str] = []

    def candidate(name: str) -> None:
        order.append(name)
        time.sleep(0.002)

    result = timing.interleaved({"a": lambda: candidate("a"), "b": lambda: candidate("b")}, rounds=4)
    assert "".join(order) == "aabb" + "abba" * 2
    assert list(result) == ["a", "b"]
    for seconds in result.values():
        assert 0.002 <= seconds.p20 <= seconds.p50 <= seconds.p80


def test_one_long_call_warms_up() -> None:
    calls = []
    timing.interleaved({"slow": lambda: calls.append(time.sleep(0.003))}, rounds=2, sample=1e-4)
    assert len(calls) == 1 + 2


def test_short_calls_are_repeated_within_a_sample() -> None:
    calls = 0

    def count() -> None:
        nonlocal calls
        calls += 1

    timing.interleaved({"count": count}, rounds=3, sample=1e-3)
    assert calls > 3 * 50


def test_budget_ends_the_rounds_but_not_before_five() -> None:
    calls = 0

    def count() -> None:
        nonlocal calls
        calls += 1
        time.sleep(0.002)

    timing.interleaved({"count": count}, rounds=1000, budget=0.0)
    assert calls == 2 + 5


def test_garbage_collection_is_off_while_timing_and_on_again() -> None:
    seen = []
    timing.interleaved({"look": lambda: seen.append(gc.isenabled())}, rounds=1)
    assert not seen[-1]
    assert gc.isenabled()
