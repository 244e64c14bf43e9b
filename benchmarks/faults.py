"""Put this program to faults, bad input and hostile files, and count what is lost: nothing may be.

python benchmarks/faults.py            all rows, under half an hour on 2 cores; make faults does it
python benchmarks/faults.py ROW ...    these rows; the others stay as they were counted here
python benchmarks/faults.py --table    the README's table, from benchmarks/results/faults.json

A case is a process of what users run, in a folder of its own. Lost is whatever should not be: a
traceback, an error of more than one line, a hang, more seconds or memory than the row allows, a
file half written or changed, code run, another result than without the fault. What is random
follows from --seed.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import records  # noqa: E402
from faulty import (  # noqa: E402
    archives,
    disks,
    downloads,
    fuzz,
    hostile,
    kills,
    photographs,
    runs,
)
from faulty.row import Row  # noqa: E402

from classifier import cli  # noqa: E402

RESULTS = ROOT / "benchmarks/results/faults.json"
PACKAGES = ("tensorflow", "keras", "numpy", "pillow", "h5py")


@dataclass(frozen=True)
class Kind:
    """A row of the table.

    Attributes:
        attempt: what tries its cases.
        words: what they are.
        pair: whether it is tried beside another such row, for it often leaves a core idle.
    """

    attempt: Callable[[Row, Path, int], None]
    words: str
    pair: bool = False


def main() -> int:
    args = records.parse_args(__doc__, ROWS, seed=True)
    if args.table:
        print(table(records.kept(RESULTS, "make faults")))
        return 0
    began, lost = time.monotonic(), 0
    machine = records.environment(PACKAGES) | {"seed": args.seed}
    for record in records_of(args.rows, args.seed):
        name = record["name"]
        lost += record["lost"]
        records.keep(RESULTS, name, record, machine, order=list(ROWS), of_any=True)
        print(
            f"{name:16} tried {record['tried']:5}, survived {record['survived']:5}, "
            f"lost {record['lost']}, {record['minutes']:.1f} minutes",
            flush=True,
        )
        for case in record["cases_lost"]:
            print(f"  lost: {case}", flush=True)
    minutes = (time.monotonic() - began) / 60
    print(f"{minutes:.1f} minutes; figures: {RESULTS.relative_to(ROOT)}")
    return 1 if lost else 0


def records_of(names: list[str], seed: int) -> Iterator[dict]:
    """Yield the record of each row; those of pairs two at a time at the end."""
    yield from (counted(name, seed) for name in names if not ROWS[name].pair)
    with ThreadPoolExecutor(2) as pool:
        paired = [pool.submit(counted, name, seed) for name in names if ROWS[name].pair]
        yield from (done.result() for done in as_completed(paired))


def counted(name: str, seed: int) -> dict:
    """Try a row's cases; return its record."""
    row, began = Row(name), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        ROWS[name].attempt(row, Path(folder), seed)
    return {
        "name": name,
        "tried": row.tried,
        "survived": row.tried - len(row.lost),
        "lost": len(row.lost),
        "cases_lost": row.lost,
        "seconds": round(row.seconds, 2),
        "megabytes": round(row.megabytes),
        "minutes": round((time.monotonic() - began) / 60, 2),
    }


def table(rows: list[dict]) -> str:
    """Return the records kept as a Markdown table, with the machine below."""
    lines = [
        "| row | what is tried | tried | survived | lost | slowest | most memory |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        dear = [
            f"{row['seconds']:.1f} s" if row["seconds"] else "",
            f"{row['megabytes']} MB" if row["megabytes"] else "",
        ]
        cells = (f"`{row['name']}`", ROWS[row["name"]].words, f"{row['tried']:,}",
                 f"{row['survived']:,}", f"**{row['lost']}**", *dear)  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    counted_on = {}
    for row in rows:
        machine = records.in_words(row["machine"], PACKAGES)
        counted_on.setdefault(machine, []).append(f"`{row['name']}`")
    most, *others = sorted(counted_on, key=lambda machine: -len(counted_on[machine]))
    lines += ["", most]
    for machine in others:
        lines += ["", f"{', '.join(counted_on[machine])}: {machine}"]
    return "\n".join(lines)


AGAIN = "then the same command again"
ROWS = {
    "kill-prepro": Kind(kills.prepro, f"SIGKILL of `prepro.py` at any moment, {AGAIN}", pair=True),
    "kill-train": Kind(
        kills.train,
        "SIGKILL of `train.py --deterministic`, a small network, on a processor, then `--resume`: "
        "the same weights, bit for bit",
    ),
    "kill-resnet50": Kind(kills.resnet50, "the same, ResNet-50 itself", pair=True),
    "kill-evaluation": Kind(kills.evaluation, f"SIGKILL of the evaluation, {AGAIN}", pair=True),
    "kill-explain": Kind(kills.explain, f"SIGKILL of `predict.py --explain`, {AGAIN}", pair=True),
    "kill-export": Kind(kills.export, f"SIGKILL of the export, {AGAIN}", pair=True),
    "stop": Kind(
        kills.stop,
        "SIGINT or SIGTERM of the small network's training: kept at the very step, and the same "
        "weights",
    ),
    "full-disk": Kind(
        disks.full_disk, "each command that writes, with ever more room on the disk", pair=True
    ),
    "read-only": Kind(
        disks.read_only, "the same where it may not write, or a thing is in the way", pair=True
    ),
    "two-at-once": Kind(runs.two_at_once, "commands that write one file, side by side", pair=True),
    "other-arrays": Kind(
        runs.other_arrays, "`--resume` on arrays with one byte changed, or more", pair=True
    ),
    "odd-data": Kind(
        runs.odd_data,
        "classes of 1 photograph, 2 and 1,000 classes, 32 and 512 px: the whole way",
        pair=True,
    ),
    "explosions": Kind(runs.explosions, "learning rates at which the loss explodes", pair=True),
    "same-answer": Kind(
        runs.same_answer,
        "one photograph alone, among others, on standard input, in NumPy, in Keras: within 1e-5",
        pair=True,
    ),
    "hostile-models": Kind(
        hostile.models, "model files and checkpoints from strangers: 5 s, 500 MB, canaries"
    ),
    "hostile-arrays": Kind(hostile.arrays, "arrays files from strangers, likewise"),
    "archives": Kind(archives.archives, "archives from strangers, likewise"),
    "photos-predict": Kind(
        photographs.photographs_predict,
        "3,000 damaged photographs, and bombs, decoded and through `predict.py`, good ones among "
        "them: 5 s, 600 MB",
    ),
    "photos-prepro": Kind(
        photographs.photographs_prepro, "the same photographs through one `prepro.py`: 600 MB"
    ),
    "downloads": Kind(downloads.downloads, "servers that break off, stall, lie or lead elsewhere"),
    "fuzz-photographs": Kind(
        fuzz.fuzz_photographs, "inputs of a fuzzer to the decoder, 5 minutes", pair=True
    ),
    "fuzz-models": Kind(fuzz.fuzz_models, "to the reader of models, 2.5 minutes", pair=True),
    "fuzz-arrays": Kind(fuzz.fuzz_arrays, "to the reader of arrays, 2.5 minutes", pair=True),
}

if __name__ == "__main__":
    cli.run(main, product="file")
