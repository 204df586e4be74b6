"""docker-compose.yml as Compose reads it, and what it says of a service, with the places of this machine put in."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / "docker-compose.yml"

_VARIABLE = re.compile(r"\$\$|\$\{([A-Z_]+):-([^}]*)\}")


def read(path: Path = FILE) -> dict[str, Any]:
    """The whole file; each variable has the value that stands beside it."""

    def value(found: re.Match[str]) -> str:
        return "$" if found[0] == "$$" else found[2]

    content: dict[str, Any] = resolved(yaml.safe_load(path.read_text(encoding="utf-8")), value)
    return content


def resolved(node: Any, value: Any) -> Any:
    if isinstance(node, dict):
        return {name: resolved(child, value) for name, child in node.items()}
    if isinstance(node, list):
        return [resolved(child, value) for child in node]
    return _VARIABLE.sub(value, node) if isinstance(node, str) else node


@dataclass(frozen=True)
class Places:
    """Where the things of the file are here: folders for volumes, and other words for some of its words."""

    volumes: Mapping[str, Path]
    words: Mapping[str, str]

    def command(self, service: Mapping[str, Any], command: list[str] | None = None) -> list[str]:
        """What a service runs."""
        words = [*service.get("entrypoint", ()), *(service["command"] if command is None else command)]
        return [self._translated(word, service) for word in words]

    def environment(self, service: Mapping[str, Any]) -> dict[str, str]:
        """What a service is told, and what the image tells it."""
        told = {name: self._translated(str(value), service) for name, value in service.get("environment", {}).items()}
        return told | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'gen'}",
            "PYTHONUNBUFFERED": "1",
            "HOME": "/tmp",
        }

    def _translated(self, text: str, service: Mapping[str, Any]) -> str:
        for there, here in self.words.items():
            text = text.replace(there, here)
        for mount in service.get("volumes", ()):
            source, target = mount["source"], mount["target"]
            here = self.volumes.get(source) if mount["type"] == "volume" else ROOT / source
            if here is not None:
                text = re.sub(rf"(?<![\w.]){re.escape(target)}(?![\w.])", str(here), text)
        # All secrets in one folder, for who makes them.
        return re.sub(r"(?<![\w.])/made(?![\w.])", str(self.volumes["keys"].parent), text)
