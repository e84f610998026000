"""Which faults a seed has: most seeds have a few kinds, some have all."""

from dataclasses import dataclass
from functools import partial

from engine.log.simulated_broker import Faults
from engine.ports import Random
from engine.simulator.cluster import Chances
from engine.simulator.others import BeatFaults


@dataclass(slots=True, frozen=True)
class Deploys:
    """When the next version's folder is on each node's disk, and when the old content is again."""

    step: int  # 0 = never
    spread: int  # steps between nodes
    back: int  # steps until a version with the first one's content; 0 = never
    force: bool  # the nodes that lack it are not waited for


@dataclass(slots=True, frozen=True)
class Profile:
    """What a seed does to its cluster."""

    faults: Faults
    chances: Chances
    beats: BeatFaults
    standbys: int
    snapshots_ms: int  # between copies; 0 = there is no store for them
    reading: bool  # does the host read rows, or name missing ones?
    build_records: int  # a step: few, so that faults hit the builds
    idle_step: int  # when a day goes by, behind which ids expire; 0 = never
    deploys: Deploys


def profile_of(random: Random, steps: int) -> Profile:
    """Return the profile that a seed's randomness begins with."""
    some = partial(_some, random)
    return Profile(
        _broker(random),
        _nodes(random),
        BeatFaults(
            delay_ms=20 + some(400),
            lose=some(300),
            stall=some(15),
            stall_ms=500 + random.below(5_000),
            cut=some(15),
            cut_ms=500 + random.below(8_000),
        ),
        standbys=random.below(3),
        snapshots_ms=500 + random.below(2_500) if random.below(3) else 0,
        reading=random.below(2) == 0,
        build_records=1 + random.below(8),
        idle_step=random.below(steps // 2) if random.below(2) else 0,
        deploys=Deploys(
            step=1 + random.below(steps) if random.below(2) else 0,
            spread=random.below(60) if random.below(2) else 0,
            back=1 + random.below(steps // 2) if random.below(3) == 0 else 0,
            force=random.below(4) == 0,
        ),
    )


def _broker(random: Random) -> Faults:
    some = partial(_some, random)
    return Faults(
        stay=some(900),
        part=some(800),
        late_report=some(600),
        stale_read=some(600),
        pending_lookup=some(600),
        lose_reply=some(200),
        budget=random.below(12),
        lose=some(30),
        silent=some(500),
        drop_report=some(20),
        hole=some(6) if random.below(4) == 0 else 0,
        double=some(10) if random.below(4) == 0 else 0,
        elect=some(10),
        skew_ms=random.below(2_000),
        unavailable=some(100),
        lose_command=some(50),
        double_command=some(50),
    )


def _nodes(random: Random) -> Chances:
    some = partial(_some, random)
    return Chances(
        crash=some(15),
        crash_inside=random.below(1_000),
        damage_disk=some(200),
        damage_block=some(8),
        terminate=some(10),
        drain=some(10),
        pause=some(40),
        pause_steps=10 + random.below(80),
        slow=some(10),
        flush=random.below(100),
        reassign=some(60),
        notice=20 + random.below(200),
        hear=20 + random.below(300),
        skew=some(10),
        skew_ms=4_000 if random.below(2) else 60_000,
        objects_away=some(200),
        objects_cut=some(10),
        objects_cut_ms=500 + random.below(10_000),
        objects_damaged=some(10),
        archive=some(200),
        trim=some(200),
    )


def _some(random: Random, rate: int) -> int:
    return random.below(rate) if random.below(2) else 0
