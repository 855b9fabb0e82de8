"""What every room stands on: settings, files that are read and written whole, the machine. No paper, no model."""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent


class DataError(ValueError):
    """Bad data: one line that names the file, the document, the field and the way out."""
