"""When a standby may claim: every rule of it, and none of it depends on who runs first."""

import pytest

from engine import limits
from engine.partition.standby import Standing, Watch, may_claim

ALONE = Standing()
SECOND = Standing(assigned=False, rank=1, silence_ms=0, watched=True)
FIRST = SECOND._replace(rank=0)
GROUP = limits.GROUP_WAIT_MS
SILENCE = limits.OWNER_SILENCE_MS
STEP = limits.STANDBY_STEP_MS


def claims(watch: Watch, standing: Standing, now_ms: int) -> bool:
    return may_claim(watch, standing, "me", now_ms)


def first_at(watch: Watch, standing: Standing, *, silent: bool = True) -> int:
    """Return when it claims, if the owner falls silent at 0 and never speaks again."""
    for now_ms in range(0, 3 * GROUP, 50):
        told = standing._replace(silence_ms=now_ms) if silent else standing
        if claims(watch, told, now_ms):
            return now_ms
    return -1


def test_who_is_alone_claims_at_once() -> None:
    assert claims(Watch(0), ALONE, 0)


def test_a_silent_owner_is_replaced_by_one_standby_after_the_other() -> None:
    assert first_at(Watch(0), FIRST) == SILENCE
    assert first_at(Watch(0), SECOND) == SILENCE + STEP
    assert first_at(Watch(0), SECOND._replace(rank=2)) == SILENCE + 2 * STEP


def test_an_owner_that_speaks_is_left_alone_even_by_whom_the_group_has_chosen() -> None:
    chosen = Standing(assigned=True, silence_ms=0, watched=True)
    assert first_at(Watch(0), chosen, silent=False) == -1
    assert first_at(Watch(0), FIRST, silent=False) == -1


def test_records_that_count_are_a_sign_of_life_when_heartbeats_are_late() -> None:
    watch = Watch(0)
    watch.met(5_000, counted=True)
    late = FIRST._replace(silence_ms=4_000)
    assert not claims(watch, late, 5_000 + SILENCE - 1)
    assert claims(watch, late, 5_000 + SILENCE)


def test_silence_counts_from_the_landing_of_a_claim() -> None:
    watch = Watch(0)
    watch.met(1_000, counted=True)  # an Owner record of a node that was never heard
    unheard = Standing(assigned=False, rank=0)
    assert not claims(watch, unheard, 1_000 + SILENCE - 1)
    assert claims(watch, unheard, 1_000 + SILENCE)


@pytest.mark.parametrize("standing", [FIRST, SECOND, FIRST._replace(silence_ms=3_600_000)])
def test_when_the_heartbeats_stall_nobody_suspects_anybody(standing: Standing) -> None:
    for now_ms in range(0, 10 * GROUP, 500):
        assert not claims(Watch(0), standing._replace(deaf_ms=max(now_ms, 1)), now_ms)


def test_when_they_stall_for_long_the_groups_choice_goes_on_alone() -> None:
    chosen = Standing(assigned=True, deaf_ms=GROUP, silence_ms=0)
    assert not claims(Watch(0), chosen, GROUP - 1)
    assert claims(Watch(0), chosen, GROUP)
    busy = Watch(0)
    busy.met(GROUP, counted=True)  # but its owner still writes
    assert not claims(busy, chosen, GROUP)


def test_released_names_who_is_next_and_the_others_wait() -> None:
    watch = Watch(0)
    watch.met(1_000, counted=True)
    watch.released(1_000, "me")
    assert claims(watch, SECOND, 1_000)
    other = Watch(0)
    other.released(1_000, "somebody")
    wait = limits.SUCCESSOR_WAIT_MS
    assert not claims(other, FIRST, 1_000 + wait - 1)
    assert claims(other, FIRST, 1_000 + wait)
    assert not claims(other, SECOND, 1_000 + wait + STEP - 1)
    assert claims(other, SECOND, 1_000 + wait + STEP)


def test_released_to_a_node_that_leaves_is_for_the_next_at_once() -> None:
    watch = Watch(0, wait_ms=limits.SUCCESSOR_WAIT_MS)
    watch.released(0, "other")
    going = FIRST._replace(going=frozenset({"other"}))
    assert not claims(watch, FIRST, 1)
    assert claims(watch, going, 1)
    assert not claims(watch, going._replace(rank=1), 1)
    watch.owned()
    assert not claims(watch, going, 1)


def test_released_without_a_successor_is_for_whom_the_group_has_chosen() -> None:
    watch = Watch(0)
    watch.released(1_000, None)
    assert claims(watch, Standing(assigned=True, rank=1), 1_000)
    assert not claims(watch, FIRST, 1_000)


def test_a_claim_ends_the_word_of_released() -> None:
    watch = Watch(0)
    watch.released(1_000, "me")
    watch.owned()
    watch.met(1_100, counted=True)
    assert not claims(watch, FIRST, 1_200)


def test_after_a_lost_race_it_waits_whatever_it_hears_but_its_own_name() -> None:
    watch = Watch(0, wait_ms=2_000)
    assert not claims(watch, ALONE, 1_999)
    assert claims(watch, ALONE, 2_000)
    named = Watch(0, wait_ms=2_000)
    named.released(10, "me")
    assert claims(named, FIRST, 10)


def test_where_no_owner_was_heard_the_group_is_given_time_to_choose() -> None:
    """All nodes start at once: standbys must not take what the group is about to give."""
    assert first_at(Watch(0), Standing(assigned=False, rank=0), silent=False) == GROUP
    from_before = Standing(assigned=False, rank=0, silence_ms=0, watched=False)
    assert first_at(Watch(0), from_before) == GROUP
