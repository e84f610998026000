"""The jars of a local Apache Kafka: which, from where, and whether they are what they must be.

Owns the lock file and the cache outside the clone. Nothing is run here, and nothing that fails
its checksum is ever left in the cache.
"""

import hashlib
import os
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

import httpx
from jgo.constants import MAVEN_CENTRAL_URL

from engine.errors import UnavailableError

VERSION = "4.3.1"
LOCK_FILE = Path(__file__).parent / "jars.lock"
REPOSITORY_VARIABLE = "PARTITA_MAVEN_REPOSITORY"
DOWNLOADS_MAX = 8
DOWNLOAD_TIMEOUT_S = 60.0
ATTEMPTS_MAX = 3

Progress = Callable[[int, int], None]  # bytes done, bytes in all


@dataclass(slots=True, frozen=True)
class Jar:
    """One line of the lock file."""

    group: str
    artifact: str
    version: str
    sha256: str
    size_bytes: int

    @property
    def file(self) -> str:
        """Return its file name."""
        return f"{self.artifact}-{self.version}.jar"

    @property
    def path(self) -> str:
        """Return its path in a Maven repository."""
        return f"{self.group.replace('.', '/')}/{self.artifact}/{self.version}/{self.file}"


def locked() -> list[Jar]:
    """Return the jars that the lock file names."""
    jars: list[Jar] = []
    for line in LOCK_FILE.read_text().splitlines():
        if line and not line.startswith("#"):
            coordinate, sha256, size = line.split()
            group, artifact, version = coordinate.split(":")
            jars.append(Jar(group, artifact, version, sha256, int(size)))
    return jars


def cache_folder() -> Path:
    """Return where jars are kept: outside any clone, so that all of them share it."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "partita" / f"kafka-{VERSION}"


def _sound(file: Path, jar: Jar) -> bool:
    if not file.is_file() or file.stat().st_size != jar.size_bytes:
        return False
    return hashlib.sha256(file.read_bytes()).hexdigest() == jar.sha256


def _fetch(client: httpx.Client, base: str, jar: Jar, folder: Path) -> None:
    """Download one jar; it gets its name only after its checksum was found right."""
    url = f"{base}/{jar.path}"
    fault = ""
    for _ in range(ATTEMPTS_MAX):
        try:
            answer = client.get(url)
            answer.raise_for_status()
        except httpx.HTTPError as error:
            fault = f"{url}: {error}"
            continue
        digest = hashlib.sha256(answer.content).hexdigest()
        if digest != jar.sha256:
            fault = f"{url} has sha256 {digest}, not {jar.sha256} of the lock file"
            continue
        handle, name = tempfile.mkstemp(dir=folder, prefix=".part-")
        with os.fdopen(handle, "wb") as file:
            file.write(answer.content)
        Path(name).replace(folder / jar.file)
        return
    raise UnavailableError(
        "E1404",
        f"a jar could not be fetched: {fault}",
        f"Check the network, or set {REPOSITORY_VARIABLE} to a Maven repository in reach",
    )


def fetch(
    progress: Progress | None = None,
    *,
    repository: str = "",
    folder: Path | None = None,
    jars: Sequence[Jar] | None = None,
) -> Path:
    """Return the folder with all jars, fetching those that are missing or damaged."""
    folder = folder or cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    jars = locked() if jars is None else jars
    missing = [jar for jar in jars if not _sound(folder / jar.file, jar)]
    if not missing:
        return folder
    base = repository or os.environ.get(REPOSITORY_VARIABLE) or MAVEN_CENTRAL_URL
    total = sum(jar.size_bytes for jar in missing)
    with (
        httpx.Client(timeout=DOWNLOAD_TIMEOUT_S, follow_redirects=True) as client,
        ThreadPoolExecutor(DOWNLOADS_MAX) as pool,
    ):
        # The big ones first, so that none of them is alone at the end.
        missing.sort(key=lambda jar: -jar.size_bytes)
        sizes = {
            pool.submit(_fetch, client, base.rstrip("/"), jar, folder): jar.size_bytes
            for jar in missing
        }
        waiting = set(sizes)
        while waiting:
            done, waiting = wait(waiting, timeout=0.2, return_when=FIRST_EXCEPTION)
            for finished in done:
                if finished.exception() is not None:
                    pool.shutdown(wait=False, cancel_futures=True)
                finished.result()
            if progress is not None:
                progress(total - sum(sizes[future] for future in waiting), total)
    return folder


def classpath(folder: Path) -> str:
    """Return Java's class path: the locked jars and nothing else that lies in the folder."""
    return os.pathsep.join(str(folder / jar.file) for jar in locked())
