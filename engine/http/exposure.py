"""Who may be reached from where: loopback by default, another address only with a token (E1003)."""

import ipaddress

from engine.errors import ConfigError
from engine.settings import HttpSettings


def is_loopback(host: str) -> bool:
    """Return True for an address that only this machine reaches."""
    return host == "localhost" or address_is(host, "is_loopback")


def check_exposure(settings: HttpSettings) -> None:
    """Refuse an address that others can reach, unless requests must carry a token."""
    if settings.token is None and not settings.insecure and not is_loopback(settings.host):
        raise ConfigError(
            "E1003",
            f"{settings.host} can be reached by others, and there is no token",
            "Set http.token, or pass --insecure if the network is trusted",
        )


def address_is(host: str, what: str) -> bool:
    """Return what `ipaddress` says of an address; False for a name."""
    try:
        return bool(getattr(ipaddress.ip_address(host), what))
    except ValueError:
        return False
