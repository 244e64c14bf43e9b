"""What benchmarks share: their command line, and the JSON list of rows that they keep."""

import argparse
import importlib.metadata
import json
import platform
import re
import time
from collections.abc import Sequence
from pathlib import Path

from classifier import cli, processor
from classifier.errors import UserError
from classifier.files import atomic_write, make_folder
from classifier.processor import cores, cpu_flags


def parse_args(about: str, names: Sequence[str], seed: bool = False) -> argparse.Namespace:
    """Return the flags of a benchmark: rows (all of `names` where none is given), and table.

    Args:
        about: the benchmark's docstring.
        names: of its rows.
        seed: whether it has a flag --seed.
    """
    parser = cli.Parser(description=about.splitlines()[0])
    parser.add_argument("rows", nargs="*", metavar="ROW", help=", ".join(names))
    parser.add_argument("--table", action="store_true", help="print the table kept, as Markdown")
    if seed:
        parser.add_argument("--seed", type=cli.integer(0), default=0, help="of what is random")
    args = parser.parse_args()
    for name in args.rows:
        if name not in names:
            parser.error(f"no row {name}; the rows are {', '.join(names)}")
    if args.table and args.rows:
        parser.error("argument --table: not allowed with rows")
    args.rows = args.rows or list(names)
    return args


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


def in_words(machine: dict, packages: Sequence[str]) -> str:
    """Return a machine of `environment` in a line, with the versions of some packages."""
    versions = ", ".join(f"{name} {machine[name]}" for name in ("python", *packages))
    seed = f"seed {machine['seed']}; " if "seed" in machine else ""
    return (
        f"{machine['cores']} cores of {machine['processor']}; {versions}; {seed}"
        f"commit {machine['commit']}; {machine['date']}."
    )


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


def keep(
    path: Path,
    name: str,
    record: dict,
    machine: dict,
    order: Sequence[str],
    of_any: bool = False,
) -> None:
    """Write a row's record among those in a file, unless they are of another machine or commit.

    Args:
        path: of the file.
        name: of the row.
        record: what was measured.
        machine: of `environment`.
        order: names of the rows, in which the records stand.
        of_any: keep the others whatever they are of; each is shown with its own machine then.
    """
    rows = {}
    if path.exists():
        for row in kept(path, "it"):
            if of_any or row["machine"] | {"date": ""} == machine | {"date": ""}:
                rows[row["name"]] = row
    rows[name] = record | {"machine": machine}
    make_folder(path.parent)
    with atomic_write(path) as temporary:
        in_order = [rows[name] for name in order if name in rows]
        temporary.write_text(json.dumps(in_order, indent=1) + "\n")
