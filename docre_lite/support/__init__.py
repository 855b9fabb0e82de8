"""Support for every room: settings, files that are read and written whole, the machine. No papers, no models."""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent


def shipped(name: str) -> Path:
    """A file or folder that travels with the package: inside it once installed, beside it in a checkout."""
    inside, beside = PACKAGE / name.removeprefix("benchmarks/"), PACKAGE.parent / name
    return inside if inside.exists() else beside


class DataError(ValueError):
    """Bad data: one line that names the file, the document, the field and the remedy."""
