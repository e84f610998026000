"""Has the state host compiled when a wheel or an editable install is made."""

import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class HostBuildHook(BuildHookInterface):  # pyright: ignore[reportMissingTypeArgument]
    """Compiles host.wasm before its folder is packed."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 - hatch's
        """Build the module, unless it is there from these very sources."""
        folder = Path(self.root) / "engine" / "sandbox" / "host"
        sys.path.insert(0, str(folder))
        import build  # noqa: PLC0415 - the folder is on the path from here on

        build.build()
