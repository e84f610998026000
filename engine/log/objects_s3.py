"""Named blobs in an S3 bucket, or at anything that speaks S3.

Owns what its address means, and the client. Credentials come from the environment as with every
S3 client (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, roles, …), never from a setting: what settings
hold is printed and logged. Must not look into the blobs.
"""

from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from engine.errors import ConfigError, UnavailableError
from engine.log.objects import check_name, listed

if TYPE_CHECKING:
    from obstore.store import S3Config

_REGION = "us-east-1"
_TIMEOUT = timedelta(seconds=60)
_CONNECT_TIMEOUT = timedelta(seconds=5)
_RETRIES_MAX = 3
_RETRY_TIMEOUT = timedelta(seconds=15)
_OPTIONS = frozenset({"endpoint", "region"})


class S3Objects:
    """An ObjectStore in a bucket that is there already. Usable from any thread."""

    def __init__(self, url: str, within: str) -> None:
        found = urlsplit(url)
        options = {name: values[-1] for name, values in parse_qs(found.query).items()}
        endpoint = options.get("endpoint", "")
        if "@" in found.netloc or "@" in urlsplit(endpoint).netloc or options.keys() - _OPTIONS:
            raise ConfigError(
                "E1001",
                "an S3 address is s3://bucket/prefix?endpoint=URL&region=NAME and no more",
                "Credentials come from the environment: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY",
            )
        self._place = f"{found.netloc}{found.path}"
        config: S3Config = {
            "region": options.get("region", _REGION),
            "virtual_hosted_style_request": not endpoint,
        }
        if endpoint:
            config["endpoint"] = endpoint
        self._store = S3Store(
            found.netloc,
            prefix="/".join(part for part in (found.path.strip("/"), within) if part),
            config=config,
            client_options={
                "allow_http": endpoint.startswith("http://"),
                "timeout": _TIMEOUT,
                "connect_timeout": _CONNECT_TIMEOUT,
            },
            retry_config={"max_retries": _RETRIES_MAX, "retry_timeout": _RETRY_TIMEOUT},
        )

    def put(self, name: str, data: bytes) -> None:
        """Store a blob; S3 answers when it is durable, and shows it whole or not at all."""
        check_name(name)
        try:
            obstore.put(self._store, name, data)
        except (BaseError, OSError) as fault:
            raise self._away(fault) from fault

    def get(self, name: str) -> bytes | None:
        """Return a blob, or None."""
        check_name(name)
        try:
            return bytes(obstore.get(self._store, name).bytes())
        except FileNotFoundError:
            return None
        except (BaseError, OSError) as fault:
            raise self._away(fault) from fault

    def names(self, prefix: str = "") -> list[str]:
        """Return all names that begin with `prefix`, sorted."""
        within = prefix.rpartition("/")[0]
        try:
            found = [
                str(meta["path"])
                for page in obstore.list(self._store, within or None)
                for meta in page
            ]
        except (BaseError, OSError) as fault:
            raise self._away(fault) from fault
        return listed(found, prefix)

    def delete(self, name: str) -> None:
        """Delete a blob, if it is there."""
        check_name(name)
        try:
            obstore.delete(self._store, name)
        except FileNotFoundError:
            return
        except (BaseError, OSError) as fault:
            raise self._away(fault) from fault

    def _away(self, fault: Exception) -> UnavailableError:
        # What the client says first is enough; behind it come requests, and who knows what else.
        said = " ".join(str(fault).split("\n", 1)[0].split())
        return UnavailableError(
            "E1407",
            f"{type(fault).__name__}: {said[:300]}",
            "Check the address, the bucket and the credentials; it is tried again",
            bucket=self._place,
        )
