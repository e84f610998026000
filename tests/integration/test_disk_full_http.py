"""A node whose disk is full, asked over HTTP: what its clients see, and how it goes on."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from engine_world import World, until
from small_disk import fill_up, small_disk
from test_surroundings import purse

SIZE_MIB = 64
WORKSPACES = ("east", "west", "north", "south")  # two in each partition


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", SIZE_MIB) as place:
        yield place


@pytest.mark.parametrize("full", ["stores and log", "stores"])
def test_clients_are_told_to_try_again_and_it_goes_on_when_there_is_room(
    disk: Path, tmp_path: Path, full: str
) -> None:
    if full == "stores":  # as with a broker: the stores alone have no room
        (disk / "data" / "purse").mkdir(parents=True)
        (tmp_path / "log").mkdir()
        (disk / "data" / "purse" / "log").symlink_to(tmp_path / "log")
    world = World(disk / "data", purse(tmp_path / "purse", 2), snapshots={"interval_s": 1})
    moved = dict.fromkeys(WORKSPACES, 0)

    def move(workspace: str) -> int:
        """Move 1; the same number gives the same command, however often it is asked."""
        key = f"{WORKSPACES.index(workspace):08}-0000-4000-8000-{moved[workspace]:012}"
        answer = world.ask(
            "POST",
            f"/v1/workspaces/{workspace}/commands/move",
            json={"amount": 1},
            headers={"Idempotency-Key": key},
        )
        if answer.status_code == 200:
            moved[workspace] += 1
            assert answer.json()["workspace_sequence"] == moved[workspace]
        else:
            assert answer.status_code == 503, answer.text
            assert answer.headers["Retry-After"]
        return answer.status_code

    def amounts() -> dict[str, int]:
        path = "/v1/workspaces/{}/records/purse/0"
        return {
            one: world.ask("GET", path.format(one)).json()["fields"]["amount"] for one in WORKSPACES
        }

    try:
        world.start()
        for workspace in WORKSPACES:
            assert move(workspace) == 200
        ballast = fill_up(disk)
        # Some may still be decided: what is acknowledged then is on the disk, as ever.
        until(lambda: {move(one) for one in WORKSPACES} == {503})
        if full == "stores":
            problems = until(lambda: len(world.node.problems()) == 2 and world.node.problems())
            assert all("E1207" in one and "No space left" in one for one in problems.values())
            shown = world.ask("GET", "/health/ready").json()["problems"]
            assert shown == {str(partition): problem for partition, problem in problems.items()}
        assert world.ask("GET", "/health/ready").status_code == 503
        path = "/v1/workspaces/{}/records/purse/0"
        assert {world.ask("GET", path.format(one)).status_code for one in WORKSPACES} == {503}
        ballast.unlink()
        until(world.node.ready)
        # What was not answered is asked for again: it was decided once, or it is now.
        assert {move(one) for one in WORKSPACES} == {200}
        assert amounts() == moved
        assert {move(one) for one in WORKSPACES} == {200}
        world.stop()
        world.start()
        assert amounts() == moved
    finally:
        world.stop()
