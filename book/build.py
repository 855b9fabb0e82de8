"""Build the book: execute the chapters, write the pages. `make book` calls this, and `make test` before it tests them.

A book that exists and whose sources have not changed is left as it is. Executed chapters are cached by
their code cells. The package's own code is no part of that key, so the cache is dropped here when package, data,
results, pins or Python change. Pages are all written again (`--all`, in an empty folder): an incremental build after
a failed one reports success, and pages that are no longer in the contents would stay.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "_build"
# What executed chapters depend on beside their own code cells, and what pages depend on.
UNDER_CHAPTERS = ("docre_lite", "data", "benchmarks/plans", "benchmarks/results", "pyproject.toml", "constraints.txt")
UNDER_PAGES = (*UNDER_CHAPTERS, "book", "chapters", "_config.yml", "_toc.yml", "CITATION.cff")


def fingerprint(names: tuple[str, ...]) -> str:
    """Hash of these files and folders, and of Python."""
    digest = hashlib.sha256(sys.version.encode())
    for name in names:
        path = ROOT / name
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in files:
            if file.is_file() and "__pycache__" not in file.parts:
                digest.update(str(file.relative_to(ROOT)).encode() + file.read_bytes())
    return digest.hexdigest()


def drop_stale_cache() -> None:
    stamp, now = BUILD / "fingerprint", fingerprint(UNDER_CHAPTERS)
    if stamp.exists() and stamp.read_text() == now:
        return
    shutil.rmtree(BUILD / ".jupyter_cache", ignore_errors=True)
    BUILD.mkdir(exist_ok=True)
    stamp.write_text(now)


def quiet_kernels() -> None:
    """A profile of their own for the chapters' kernels: each would warn that it is reached over TCP."""
    profile = BUILD / "ipython" / "profile_default"
    profile.mkdir(parents=True, exist_ok=True)
    (profile / "ipython_kernel_config.py").write_text("get_config().IPKernelApp.log_level = 40\n")
    os.environ["IPYTHONDIR"] = str(BUILD / "ipython")


def execute() -> list[str]:
    """Fill the cache with several chapters at a time; Sphinx alone would run one after the other.

    Returns the chapters that failed; their tracebacks have been printed.
    """
    import yaml
    from jupyter_cache import get_cache
    from jupyter_cache.executors import load_executor

    contents = (ROOT / "_toc.yml").read_text(encoding="utf-8")
    chapters = [file for name in re.findall(r"file: (\S+)", contents) if (file := ROOT / f"{name}.ipynb").exists()]
    cache = get_cache(BUILD / ".jupyter_cache")
    for record in cache.list_project_records():  # chapters of earlier builds may be gone
        cache.remove_nb_from_project(record.pk)
    for chapter in chapters:
        cache.add_nb_to_project(str(chapter))
    print(
        f"Executing {len(chapters)} chapters, several at a time; unchanged ones are taken from the cache ...",
        flush=True,
    )
    timeout = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["execute"]["timeout"]
    done = load_executor("local-parallel", cache).run_and_cache(timeout=timeout)
    return [str(Path(name).relative_to(ROOT)) for name in done.excepted + done.errored]


def write_pages() -> int:
    """Sphinx's exit code: what it only warns of is a fault, too."""
    tool = Path(sys.executable).parent / "jupyter-book"
    command = [str(tool), "build", "-q", "--all", "-W", "-n", "--keep-going", "."]
    return subprocess.run(command, cwd=ROOT).returncode


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--execute-only", action="store_true", help="execute the chapters, write no pages")
    options = parser.parse_args()
    start, site, stamp, now = time.time(), BUILD / "html", BUILD / "html.fingerprint", fingerprint(UNDER_PAGES)
    if not options.execute_only and (site / "index.html").exists() and stamp.exists() and stamp.read_text() == now:
        print(f"The book at {site / 'index.html'} is up to date")
        return 0
    quiet_kernels()
    # PYDEVD..: the kernel's debugger otherwise warns about frozen modules in every chapter.
    os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"
    drop_stale_cache()
    if failed := execute():
        print(f"\nThe book was NOT built. Chapters that failed: {', '.join(failed)}", file=sys.stderr)
        return 1
    if options.execute_only:
        return 0
    stamp.unlink(missing_ok=True)
    shutil.rmtree(site, ignore_errors=True)
    if code := write_pages():
        print("\nThe book was NOT built without faults: see the warnings above", file=sys.stderr)
        return code
    stamp.write_text(now)  # as things were at the start: what was changed meanwhile may not be in
    print(f"\nThe book is at {site / 'index.html'} ({time.time() - start:.0f} s)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
