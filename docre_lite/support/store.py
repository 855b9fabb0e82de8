"""Files of models and checkpoints: JSON and safetensors, read whole or rejected, written whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from inspect import signature
from pathlib import Path
from typing import IO, Any

from filelock import FileLock, Timeout
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from . import DataError

# A lock that is a mere file, the fallback of newer versions, would outlive a killed process.
HARD = {"fallback_to_soft": False} if "fallback_to_soft" in signature(FileLock.__init__).parameters else {}
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
THRESHOLDS = ".cut"  # may be infinite: a relation that is never, or always, claimed
ANEW = "copy it again from an intact source, or train again"


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises DataError if the file is missing, cut short, or something else."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); {ANEW}") from None
    except ValueError as error:  # also bytes that are not text
        raise DataError(f"{path}: cut short or damaged ({error}); {ANEW}") from None
    except RecursionError:
        raise DataError(f"{path}: JSON nested too deeply; {ANEW}") from None
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


def check_weights(path: Path, weights: Mapping[str, Tensor]) -> None:
    """Raises DataError if a weight is not a finite number: a model with one would find nothing, without a word."""
    for name, tensor in weights.items():
        if tensor.is_floating_point() and not name.endswith(THRESHOLDS) and not tensor.isfinite().all():
            raise DataError(f"{path}: {name} holds numbers that are not finite; {ANEW}")


def differs(meant: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> str | None:
    """The first weight that a network lacks or has in another size, in words; None if they belong together.

    `meant` may be on the device "meta", where a network takes no memory.
    """
    for name, tensor in meant.items():
        if name not in weights:
            return f"no {name}"
        if (there := tuple(weights[name].shape)) != (asked := tuple(tensor.shape)):
            return f"size mismatch: {name} is {there}, not {asked}"
        if tensor.is_floating_point() != weights[name].is_floating_point():
            return f"{name} holds {weights[name].dtype}, not {tensor.dtype}"
    return next((f"{name} too many" for name in weights if name not in meant), None)


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
    if path.exists() and not (path.is_file() or path.is_dir()):  # a device or a pipe, such as /dev/stdout
        yield path
        return
    new = _beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _create(new)
        yield new
        _to_disk(new)
        new.replace(path)
        _to_disk(path.parent)  # the name, too
    except BaseException:
        if path.parent.is_dir():
            new.unlink(missing_ok=True)
        raise


def check_writable(path: Path, way_out: str = "fix that, or choose another --out") -> None:
    """Raises DataError if a file cannot be written at `path`: better now than after the work. Makes its folder."""
    with writing(path, way_out):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        if path.exists() and not path.is_file():
            return
        _create(new := _beside(path))
        new.unlink()


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name[:50]}.{os.getpid()}.tmp")  # short: the name itself may be as long as can be


def _create(path: Path) -> None:
    """An empty file of our own: what a stranger put there, such as a link to a file of yours, is not written to."""
    path.unlink(missing_ok=True)
    path.touch(exist_ok=False)


def no_link(path: str, flags: int) -> int:
    """For `open(..., opener=no_link)`: refuses a link, which a stranger may have planted."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)


def to_disk(file: IO[bytes]) -> None:
    """Waits until what was written to an open file is on the disk."""
    file.flush()
    os.fsync(file.fileno())


def write_over(path: Path, data: bytes) -> None:
    """Overwrites a file in place: creating, renaming or deleting another is slow on a network drive, which also keeps
    a copy in its trash. Stopping halfway leaves the file cut short: only for files, or folders, that exist twice.
    """
    _no_link(path)
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
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def replace_folder(folder: Path, write: Callable[[Path], None]) -> None:
    """Writes a folder beside its place and swaps the two: whenever the process is stopped, `whole` finds old or new.

    The old one stays as FOLDER.new, to be overwritten the next time, until `settle` removes it.
    """
    folder = behind(folder)
    settle(folder, keep_spare=True)
    new, old = (folder.with_name(folder.name + end) for end in (".new", ".old"))
    try:
        _no_link(new)
        new.mkdir(parents=True, exist_ok=True)
        write(new)
        for path in new.iterdir():
            _no_link(path)
            _to_disk(path)
    except Exception:
        shutil.rmtree(new, ignore_errors=True)  # makes room on a full disk
        raise
    if folder.exists():
        folder.rename(old)
    new.rename(folder)
    if old.exists():
        old.rename(new)


def behind(folder: Path) -> Path:
    """The folder that a symbolic link points to, such as one on a larger disk: it is swapped there, the link stays."""
    return Path(os.path.realpath(folder)) if folder.is_symlink() else folder


def _no_link(path: Path) -> None:
    """Removes a link where we write: only a stranger plants one there."""
    if path.is_symlink():
        path.unlink()


@contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """A folder to write files to, which move into `folder` once all are on the disk; none of them moves if one fails.

    Files there that are not written stay.
    """
    folder.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(prefix=".", suffix=".tmp", dir=folder))
    try:
        yield new
        files = sorted(new.iterdir())
        for path in files:
            _to_disk(path)
        for path in files:
            path.replace(folder / path.name)
        _to_disk(folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def whole(folder: Path) -> Path:
    """The folder, or its predecessor if the process was killed while swapping the two."""
    folder = behind(folder)
    old = folder.with_name(folder.name + ".old")
    return old if old.is_dir() and not folder.is_dir() else folder


def settle(folder: Path, keep_spare: bool = False) -> None:
    """Cleans up after a kill: the folder, old or new, is back in its place, with nothing but the spare beside it."""
    folder = behind(folder)
    if (found := whole(folder)) != folder:
        found.rename(folder)
    for end in (".old",) if keep_spare else (".new", ".old"):
        spare = folder.with_name(folder.name + end)
        _no_link(spare)
        shutil.rmtree(spare, ignore_errors=True)


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
        _no_link(folder / name)
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
