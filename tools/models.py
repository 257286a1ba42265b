"""List what lies in models/ and compare every file with models/sha256.txt."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

MODELS = Path(__file__).parent.parent / "models"


def verify(folder: Path = MODELS) -> dict[str, str]:
    """Return "ok", "missing" or "differs" for every file of ``sha256.txt``."""
    found = {}
    for line in (folder / "sha256.txt").read_text(encoding="utf-8").splitlines():
        digest, name = line.split(maxsplit=1)
        path = folder / name
        if not path.is_file():
            found[name] = "missing"
        else:
            found[name] = "ok" if hashlib.sha256(path.read_bytes()).hexdigest() == digest else "differs"
    return found


def main() -> int:
    """Print one line a file; 1 if one is not what it should be."""
    states = verify()
    for name, state in states.items():
        path = MODELS / name
        size = f"{path.stat().st_size:>10,}" if path.is_file() else " " * 10
        print(f"{size}  {name}  {state}")
    return int(any(state != "ok" for state in states.values()))


if __name__ == "__main__":
    sys.exit(main())
