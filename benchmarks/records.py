"""What benchmarks keep: a JSON list of rows, each with the machine it was measured on."""

import importlib.metadata
import json
import platform
import re
import time
from collections.abc import Sequence
from pathlib import Path

from classifier import processor
from classifier.errors import UserError
from classifier.files import atomic_write, make_folder
from classifier.processor import cores, cpu_flags


def environment(packages: Sequence[str]) -> dict:
    """Return the machine, the versions of packages, the commit and the date."""
    from classifier.training.run import code_version

    versions = {}
    for package in packages:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    return {
        "processor": processor.name(),
        "units": sorted(f for f in cpu_flags() if re.match(r"amx|avx|.*bf16|fma$|sve", f)),
        "cores": cores(),
        "python": platform.python_version(),
        **versions,
        "commit": code_version(),
        "date": time.strftime("%Y-%m-%d"),
    }


def kept(path: Path, command: str) -> list[dict]:
    """Return the records in a file that a command makes.

    Raises:
        UserError: there are none, or they are no JSON.
    """
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path}: no figures yet; {command} measures them") from None
    except ValueError:
        raise UserError(f"{path}: no JSON; remove it and run {command}") from None


def keep(path: Path, name: str, record: dict, machine: dict, order: Sequence[str]) -> None:
    """Write a row's record among those in a file, unless they are of another machine or commit.

    Args:
        path: of the file.
        name: of the row.
        record: what was measured.
        machine: of `environment`.
        order: names of the rows, in which the records stand.
    """
    rows = {}
    if path.exists():
        for row in kept(path, "it"):
            if row["machine"] | {"date": ""} == machine | {"date": ""}:
                rows[row["name"]] = row
    rows[name] = record | {"machine": machine}
    make_folder(path.parent)
    with atomic_write(path) as temporary:
        in_order = [rows[name] for name in order if name in rows]
        temporary.write_text(json.dumps(in_order, indent=1) + "\n")
