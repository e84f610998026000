"""An inn at every host: its records have every rule."""

import pytest
from host_world import HOSTS, NAMING
from record_world import Inn, change_of, inn


@pytest.fixture(params=sorted(HOSTS))
def make_host(request):
    return HOSTS[request.param]


@pytest.fixture
def world(make_host):
    return Inn(make_host, inn())


@pytest.fixture(params=sorted(NAMING))
def naming(request):
    return Inn(NAMING[request.param], inn())


@pytest.fixture
def house(world):
    """A world with two rooms, one of them inactive, a dish, and a stay with a night."""
    world.room = world.make("room", number=1, name="a")
    world.shut = world.make("room", number=2, name="b")
    world.change(change_of("deactivate", "room", world.shut))
    world.dish = world.make("dish", name="soup")
    _, ids = world.change(
        change_of("create", "stay", 1, room=world.room),
        change_of("create", "night", 2, 1, day=5),
        change_of("create", "extra", 3, 2, dish=world.dish),
    )
    world.stay, world.night, world.extra = ids[1], ids[2], ids[3]
    return world
