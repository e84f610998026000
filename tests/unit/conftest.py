"""How property tests run here: never failed by how busy the machine is."""

from hypothesis import HealthCheck, settings

settings.register_profile("partita", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("partita")
