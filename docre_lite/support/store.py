"""Files of models and checkpoints: JSON and safetensors, read whole or rejected, written whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from inspect import signature
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from . import DataError

# A lock that is a mere file, the fallback of newer versions, would outlive a killed process.
HARD = {"fallback_to_soft": False} if "fallback_to_soft" in signature(FileLock.__init__).parameters else {}
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
ANEW = "copy it again from an intact source, or train again"


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises DataError if the file is missing, cut short, or something else."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); {ANEW}") from None
    except ValueError as error:  # also bytes that are not text
        raise DataError(f"{path}: cut short or damaged ({error}); {ANEW}") from None
    if not isinstance(found, dict):
        raise DataError(f"{path}: holds a {type(found).__name__} where an object belongs; {ANEW}")
    return found


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, which can hold nothing else. Raises DataError if missing or cut short."""
    if not path.is_file():
        raise DataError(
            f"{path}: no such file, and weights are read only from safetensors, never from a pickle; {ANEW}"
        )
    try:
        return load_file(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); {ANEW}") from None
    except SafetensorError as error:
        raise DataError(f"{path}: cut short or damaged ({error}); {ANEW}") from None


def write_json(path: Path, value: Any) -> None:
    """Writes the whole file or none, see `write_whole`."""
    write_whole(path, (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode())


def write_whole(path: Path, data: bytes) -> None:
    """Writes the whole file or none, even if the process or the machine stops at any moment. Raises OSError."""
    with written_whole(path) as new:
        new.write_bytes(data)


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A path to write to: the file gets its real name when the context ends, and is removed if it ends in an error.

    Our own: some libraries for this are abandoned, and none waits for the disk. Raises OSError.
    """
    new = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield new
        _to_disk(new)
        new.replace(path)
        _to_disk(path.parent)  # the name, too
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def write_over(path: Path, data: bytes) -> None:
    """Overwrites a file in place: creating, renaming or deleting another is slow on a network drive, which also keeps
    a copy in its trash. Stopping halfway leaves the file cut short: only for files, or folders, that exist twice.
    """
    path.write_bytes(data)
    _to_disk(path)


def write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Writes a safetensors file with `write_over`; the library's writer renames. Takes their memory once more."""
    write_over(path, save({name: tensor.contiguous() for name, tensor in tensors.items()}))


def _to_disk(path: Path) -> None:
    if os.name == "posix" or path.is_file():  # Windows opens no folder
        opened = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


def sweep(folder: Path) -> None:
    """Removes the half-written files of killed writers. Only for the process that has the folder to itself."""
    for left in folder.glob(".*.tmp"):
        left.unlink(missing_ok=True)


def replace_folder(folder: Path, write: Callable[[Path], None]) -> None:
    """Writes a folder beside its place and swaps the two: whenever the process is stopped, `whole` finds old or new.

    The old one stays as FOLDER.new, to be overwritten the next time, until `settle` removes it.
    """
    settle(folder, keep_spare=True)
    new, old = (folder.with_name(folder.name + end) for end in (".new", ".old"))
    try:
        new.mkdir(parents=True, exist_ok=True)
        write(new)
        for path in new.iterdir():
            _to_disk(path)
    except Exception:
        shutil.rmtree(new, ignore_errors=True)  # makes room on a full disk
        raise
    if folder.exists():
        folder.rename(old)
    new.rename(folder)
    if old.exists():
        old.rename(new)


def whole(folder: Path) -> Path:
    """The folder, or its predecessor if the process was killed while swapping the two."""
    old = folder.with_name(folder.name + ".old")
    return old if old.is_dir() and not folder.is_dir() else folder


def settle(folder: Path, keep_spare: bool = False) -> None:
    """Cleans up after a kill: the folder, old or new, is back in its place, with nothing but the spare beside it."""
    if (found := whole(folder)) != folder:
        found.rename(folder)
    for end in (".old",) if keep_spare else (".new", ".old"):
        shutil.rmtree(folder.with_name(folder.name + end), ignore_errors=True)


class Busy(DataError):
    """Another process is using a folder."""


def alone(folder: Path, way_out: str = "choose another --out", name: str = ".lock") -> AbstractContextManager:
    """A lock on a folder, released with the returned object, or when the process ends, however it ends.

    Raises Busy if another process holds it, and DataError if nothing can be written there. If the file system has
    no locks, as on some clusters, it only warns.
    """
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder}: is a file, but a folder is needed; {way_out}")
    with writing(folder, way_out):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            return FileLock(folder / name, **HARD).acquire(blocking=False)
        except Timeout:
            raise Busy(f"{folder}: another run is at work here; wait for it, or {way_out}") from None
        except (NotImplementedError, OSError) as error:
            if isinstance(error, OSError) and error.errno not in NO_LOCKS:
                raise
    warnings.warn(f"{folder}: its file system has no locks; make sure that no other run works there", stacklevel=2)
    return nullcontext()


@contextmanager
def writing(path: Path, way_out: str) -> Iterator[None]:
    """A context for writing `path`: an error of the system becomes a DataError of one line that names the path."""
    try:
        yield
    except Exception as error:
        # safetensors and tokenizers report a full disk in their own ways; tokenizers raises a bare Exception
        if not isinstance(error, OSError | SafetensorError) and type(error) is not Exception:
            raise
        raise DataError(f"{path}: cannot be written ({getattr(error, 'strerror', None) or error}); {way_out}") from None
