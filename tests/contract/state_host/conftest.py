"""Worlds of every host: a new one is another entry of host_world.HOSTS."""

import pytest
from host_world import HOSTS, NAMING, World


@pytest.fixture(params=sorted(HOSTS))
def make_host(request):
    return HOSTS[request.param]


@pytest.fixture
def world(make_host):
    return World(make_host)


@pytest.fixture(params=sorted(NAMING))
def make_naming(request):
    return NAMING[request.param]


@pytest.fixture
def naming(make_naming):
    return World(make_naming)
