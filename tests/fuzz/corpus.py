"""The committed inputs: `<target>-<hash>.bin`, each once a finding or a place worth going to again."""

import hashlib
from pathlib import Path

from tests.fuzz.targets import SEEDS, TARGETS
from tests.vectors.vectors import load

FOLDER = Path(__file__).parent / "corpus"


def files() -> list[Path]:
    """All of them, in a fixed order."""
    return sorted(FOLDER.glob("*.bin"))


def target_of(path: Path) -> str:
    """The target that a file is for. Raises KeyError if there is none of that name."""
    name = path.stem.rpartition("-")[0]
    if name not in TARGETS:
        raise KeyError(f"{path.name}: no target is named {name!r}")
    return name


def save(name: str, octets: bytes) -> Path:
    """Keep an input for a target; the same input twice is one file."""
    path = FOLDER / f"{name}-{hashlib.sha256(octets).hexdigest()[:16]}.bin"
    FOLDER.mkdir(exist_ok=True)
    path.write_bytes(octets)
    return path


def seeds(name: str = "") -> list[bytes]:
    """What mutation starts from: the target's own, or every vector; and what is committed for it (or for frames)."""
    if name in SEEDS:
        return [*SEEDS[name], *(path.read_bytes() for path in files() if target_of(path) == name)]
    vectors = [bytes.fromhex(str(entry["hex"])) for file in ("frames.json", "rejected.json") for entry in load(file)]
    return vectors + [path.read_bytes() for path in files() if target_of(path) not in SEEDS]
