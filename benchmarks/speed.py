"""Measure how fast and how small this program is, against its rivals, on this machine.

python benchmarks/speed.py            all rows; make bench does it with the rivals installed
python benchmarks/speed.py ROW ...    these rows; the others stay as they were measured here
python benchmarks/speed.py --table    the README's table, from benchmarks/results/speed.json

Both sides of a ratio take turns in one run (see turns.py): the figure is the median of the rounds'
ratios, or of the rounds' figures. Raw figures of each round are kept. Photographs and arrays are
made of random numbers.
"""

import functools
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import records  # noqa: E402
from turns import Contestant, contestant, interleave, last_line, ratio  # noqa: E402

from classifier import cli  # noqa: E402
from classifier.errors import UserError  # noqa: E402
from classifier.processor import cores, cpu_flags  # noqa: E402

RESULTS = ROOT / "benchmarks/results/speed.json"
OURS, RIVALS, INPUTS = (f"benchmarks/{name}.py" for name in ("ours", "rivals", "inputs"))
PACKAGES = ("tensorflow", "keras", "torch", "numpy", "pillow", "scipy")
BUSY = 0.2  # cores that other programs may use before a figure is doubtful
COMPILE_LIMIT = 180  # seconds that torch.compile may take until the step is warm
# Training: pixels, recipe, batch size and whether BatchNorms and conv1 stay as they are.
TRAININGS = {64: ("scratch", 32, ""), 224: ("finetune", 8, "frozen")}


class NotMeasurableError(Exception):
    """The machine has not what the row measures."""


@dataclass(frozen=True)
class Row:
    """A row of the table: what is measured against what, and what is wanted of it."""

    measure: Callable[[], tuple[float, dict]]  # returns the value, and details
    ours: str
    against: str
    sense: str  # "<=" or ">="
    target: float
    unit: str = "x"  # of the value, as printed
    floor: float | None = None  # a value short of the target that is still acceptable

    def reaches(self, value: float, wanted: float) -> bool:
        """Return whether a value is as good as wanted, or better."""
        return value <= wanted if self.sense == "<=" else value >= wanted


def main() -> int:
    args = records.parse_args(__doc__, ROWS)
    if args.table:
        print(table(kept()))
        return 0
    os.chdir(ROOT)
    began, failed = time.perf_counter(), 0
    machine = records.environment(PACKAGES)
    for name in args.rows:
        figures = measured(name)
        failed += "error" in figures
        keep(name, figures, machine)
        print(f"{name:22} {in_words(figures)}", flush=True)
    print(f"{(time.perf_counter() - began) / 60:.1f} minutes; figures: {RESULTS.relative_to(ROOT)}")
    return 1 if failed else 0


# --- the rows' figures ---------------------------------------------------------------------------


@functools.cache
def predictions_of_one() -> dict:
    """Return the rounds of predict.py on one photograph, and of TensorFlow's import alone."""
    command = ["predict.py", "images/test.jpg", "--model", made("model")]
    rounds = interleave(
        {"ours": lambda: run(*command), "rival": lambda: run("-c", "import tensorflow")}, 7
    )
    return {
        side: {"seconds": [r.seconds for r in runs], "peak": [r.peak for r in runs]}
        for side, runs in rounds.items()
    }


def predict_one():
    rounds = predictions_of_one()
    value = ratio(rounds["ours"]["seconds"], rounds["rival"]["seconds"])
    return value, {"rounds": rounds}


def predict_one_seconds():
    rounds = predictions_of_one()
    return statistics.median(rounds["ours"]["seconds"]), {"rounds": rounds}


def predict_one_memory():
    rounds = predictions_of_one()
    return statistics.median(rounds["ours"]["peak"]), {"rounds": rounds}


def predict_many(name: str):
    if name == "bfloat16" and not has_bfloat16():
        raise NotMeasurableError("the processor has no bfloat16 units")
    photographs, weights = made("photographs", 25, 80), made("weights", program=RIVALS)
    few = made("photographs", 5, 40)

    def rival(workers, folder=photographs):
        return run(RIVALS, "predict", weights, folder, name, workers).seconds

    loaders = {workers: rival(workers, few) for workers in (0, cores())}
    loader = min(loaders, key=loaders.get)
    command = ["predict.py", "--model", made("model"), "--csv", "--precision", name, photographs]
    rounds = interleave({"ours": lambda: run(*command).seconds, "rival": lambda: rival(loader)})
    return ratio(rounds["rival"], rounds["ours"]), {"rounds": rounds, "loader_workers": loader}


def train(size: int):
    with ExitStack() as stack:
        rival, trial = best_rival(size, stack)
        ours = stack.enter_context(trainer(size))
        sides = {"ours": ours, "rival": rival}
        rates = interleave({side: paced(who, 4) for side, who in sides.items()})
        return ratio(rates["ours"], rates["rival"]), {
            "images_per_second": rates,
            "trial": trial,
            "sides": said(sides),
        }


def best_rival(size: int, stack: ExitStack) -> tuple[Contestant, dict]:
    """Return the fastest form of the PyTorch step in a short trial, and the trial's figures."""
    _, batch, frozen = TRAININGS[size]
    best, trial = None, {}
    for name in ("float32", "bfloat16") if has_bfloat16() else ("float32",):
        for mode in ("eager", "compile"):
            words = [RIVALS, "train", size, batch, name, mode, *filter(None, [frozen])]
            try:
                who = stack.enter_context(contestant(*words, limit=COMPILE_LIMIT))
            except UserError as error:
                if mode == "eager":
                    raise
                trial[f"{name} {mode}"] = f"left out: {error}"
                continue
            turn = paced(who, 3)
            rate = trial[f"{name} {mode}"] = max(turn(), turn())
            if best is None or rate > best[0]:
                best, loser = (rate, who), best
            else:
                loser = rate, who
            if loser:
                loser[1].close()
    if not has_bfloat16():
        trial["bfloat16"] = "left out: this processor has no units for it, it would be emulated"
    return best[1], trial


@functools.cache
def steps(size: int) -> dict:
    """Return the rates of training (images/s) and of a matrix product in its format (FLOP/s).

    At 64 pixels also those of the same step without `fit`, and of the input pipeline on one core.
    """
    with ExitStack() as stack:
        who = {"training": stack.enter_context(trainer(size))}
        words = ["matmul", who["training"].details["format"]]
        who["product"] = stack.enter_context(contestant(OURS, *words))
        turns = {"training": paced(who["training"], 4), "product": paced(who["product"], 1)}
        if size == 64:
            words = ["pipeline", made("arrays", 64, 16160), 32]
            who["pipeline"] = stack.enter_context(contestant(OURS, *words))
            turns["bare"] = paced(who["training"], 4, word="bare")
            turns["pipeline"] = paced(who["pipeline"], 1)
        return {"rates": interleave(turns), "sides": said(who)}


def ceiling(size: int):
    found = steps(size)
    ours = found["sides"]["training"]
    flops = [rate * ours["flops"] / ours["batch"] for rate in found["rates"]["training"]]
    return 100 * ratio(flops, found["rates"]["product"]), {"flops_per_second": flops, **found}


def pipeline():
    found = steps(64)
    return ratio(found["rates"]["pipeline"], found["rates"]["training"]), found


def fit_overhead():
    found = steps(64)
    return 100 * (ratio(found["rates"]["bare"], found["rates"]["training"]) - 1), found


def prepro():
    photographs = made("photographs", 30, 86)
    with contestant(RIVALS, "legacy", photographs, 64) as legacy:
        rates = interleave(
            {"ours": lambda: augmented(photographs)["rate"], "rival": paced(legacy, 5)}
        )
        return ratio(rates["ours"], rates["rival"]), {
            "images_per_second": rates,
            "sides": said({"rival": legacy}),
        }


def augmented(photographs: str, target: int = 800, watched: bool = False) -> dict:
    """Run prepro.py once; return its seconds, examples written, rate and memory."""
    with tempfile.TemporaryDirectory(dir=scratch()) as folder:
        words = ["--dataset-path", photographs, "--output", f"{folder}/arrays.h5"]
        done = run("prepro.py", *words, "--target-per-class", target, watched=watched)
    examples = examples_in(done.output)
    return vars(done) | {"examples": examples, "rate": examples / done.seconds, "output": None}


def examples_in(output: str) -> int:
    """Return how many examples prepro.py says that it has written, of all splits."""
    return sum(map(int, re.findall(r"^number of .* examples: (\d+)$", output, re.M)))


@functools.cache
def prepro_by_size() -> dict:
    """Return the rounds of prepro.py at no augmentation of a few, about 8,000, about 80,000."""
    sets = {"start": (2, 8, 0), "8,000": (10, 86, 800), "80,000": (101, 86, 800)}
    folders = {name: made("photographs", *counts) for name, (*counts, _) in sets.items()}
    sides = {
        name: functools.partial(augmented, folders[name], target, watched=name == "80,000")
        for name, (*_, target) in sets.items()
    }
    rounds = interleave(sides, 3)
    keys = ("seconds", "examples", "memory")
    return {name: [{k: r[k] for k in keys} for r in runs] for name, runs in rounds.items()}


def linear_prepro():
    rounds = prepro_by_size()
    start = statistics.median(run["seconds"] for run in rounds["start"])
    costs = {
        name: [(run["seconds"] - start) / run["examples"] for run in rounds[name]]
        for name in ("8,000", "80,000")
    }
    value = 100 * (ratio(costs["80,000"], costs["8,000"]) - 1)
    return value, {"seconds_per_example": costs, "start_seconds": start, "rounds": rounds}


def memory_prepro():
    peaks = [run["memory"] for run in prepro_by_size()["80,000"]]
    return max(peaks), {"rounds": peaks}


@functools.cache
def epochs_by_size() -> dict:
    """Return the rounds of an epoch of `fit` on a small network, at 8,080 and 80,800 examples."""

    def epoch(count):
        done = run(OURS, "epoch", made("arrays", 32, count))
        return json.loads(done.output.splitlines()[-1]) | {"peak": done.peak}

    return interleave({n: functools.partial(epoch, n) for n in (8080, 80800)}, 3)


def linear_train():
    rounds = epochs_by_size()
    large, small = ([run["seconds_per_example"] for run in rounds[n]] for n in (80800, 8080))
    return 100 * (ratio(large, small) - 1), {"rounds": rounds}


def memory_train():
    rounds = epochs_by_size()
    large, small = (statistics.median(run["peak"] for run in rounds[n]) for n in (80800, 8080))
    return large - small, {"rounds": rounds}


# --- what the rows share -------------------------------------------------------------------------


def deterministic():
    with trainer(64, "deterministic") as same, trainer(64) as usual:
        sides = {"ours": same, "rival": usual}
        rates = interleave({side: paced(who, 4) for side, who in sides.items()})
        return ratio(rates["ours"], rates["rival"]), {
            "images_per_second": rates, "sides": said(sides)
        }  # fmt: skip


def trainer(size: int, *how: str, python: str = sys.executable):
    """Return a contestant: `fit` on arrays of `size` pixels, in Python's environment."""
    recipe, batch, frozen = TRAININGS[size]
    arrays = made("arrays", size, 16160 if size == 64 else 1616)
    return contestant(
        OURS, "train", arrays, recipe, batch, *filter(None, [frozen, *how]), python=python
    )


def paced(who: Contestant, seconds: float, word: str = "fit"):
    """Return a function: a turn of about `seconds`, which returns images (or FLOPs) a second."""
    count = max(1, round(seconds / who.turn(word, 1)))

    def turn():
        return count * who.details["batch"] / who.turn(word, count)

    return turn


def said(sides: dict[str, Contestant]) -> dict:
    """Return what contestants said of themselves, and how many cores they used while idle.

    Raises:
        UserError: one was not idle.
    """
    for who in sides.values():
        if who.idle_cpu > 0.05:
            raise UserError(f"{who.name}: was not idle between its turns: {who.idle_cpu} cores")
    return {side: who.details | {"idle_cores": who.idle_cpu} for side, who in sides.items()}


@dataclass
class Finished:
    """A process that has ended: its seconds, peak (MB), output, and memory (MB), if watched.

    The peak is the process's own, the memory that of it and all its children at one time.
    """

    seconds: float
    peak: float
    output: str
    memory: float | None = None


def run(*words: object, watched: bool = False) -> Finished:
    """Run a Python program to its end; raise UserError where it fails."""
    command = [sys.executable, *map(str, words)]
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as notes:
        began = time.perf_counter()
        process = subprocess.Popen(command, stdout=output, stderr=notes)
        watch = Watch(process.pid) if watched else None
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            raise
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise UserError(f"{Path(command[1]).name} failed: {last_line(notes)}")
        output.seek(0)
        memory = watch.end() if watch else None
        return Finished(seconds, usage.ru_maxrss * 1024 / 1e6, output.read(), memory)


class Watch(threading.Thread):
    """Looks twice a second at how much memory a process and its descendants have together.

    A page that several of them share is counted once (PSS).
    """

    def __init__(self, pid: int):
        super().__init__(daemon=True)
        self.pid, self.most, self.over = pid, 0, threading.Event()
        self.start()

    def run(self):
        while not self.over.wait(0.5):
            self.most = max(self.most, self._memory(self.pid))

    def end(self) -> float:
        """Return the most there was, MB."""
        self.over.set()
        self.join()
        return self.most * 1024 / 1e6

    def _memory(self, pid):
        try:
            pages = Path(f"/proc/{pid}/smaps_rollup").read_text()
            children = [p.read_text() for p in Path(f"/proc/{pid}/task").glob("*/children")]
        except OSError:  # it has just ended
            return 0
        own = int(re.search(r"^Pss:\s+(\d+)", pages, re.M)[1])
        return own + sum(self._memory(int(child)) for child in " ".join(children).split())


@functools.cache
def scratch() -> str:
    """Return a folder for what is made here; it is removed at the end."""
    folder = tempfile.TemporaryDirectory(prefix="speed-")
    scratch.kept = folder
    return folder.name


@functools.cache
def made(what: str, *counts: int, program: str = INPUTS) -> str:
    """Return the path of an input, made by a process of its own so that this one stays small.

    A child's peak memory counts its parent's at the start.
    """
    path = f"{scratch()}/{'-'.join(map(str, (what, *counts)))}" + ".h5" * (what != "photographs")
    run(program, what, path, *counts)
    return path


def has_bfloat16() -> bool:
    """Return whether the processor has instructions for bfloat16."""
    return any("bf16" in flag for flag in cpu_flags())


# --- what is kept and printed --------------------------------------------------------------------


def measured(name: str) -> dict:
    """Return a row's record: value, target, pass (None: not measurable here) and details."""
    row, began, busy = ROWS[name], time.perf_counter(), busy_cores()
    record = {"name": name, "value": None, "target": f"{row.sense} {row.target:g}{row.unit}"}
    record |= {"unit": row.unit, "ours": row.ours, "against": row.against, "pass": False}
    try:
        value, details = row.measure()
        record |= {"value": value, "pass": row.reaches(value, row.target), **details}
        if row.floor is not None:
            record |= {"floor": row.floor, "floor_reached": row.reaches(value, row.floor)}
    except NotMeasurableError as reason:
        record |= {"pass": None, "reason": str(reason)}
    except (UserError, OSError, ValueError, KeyError) as error:
        record |= {"error": str(error)}
    record["busy_cores"] = round(max(busy, busy_cores()), 2)
    return record | {"minutes": (time.perf_counter() - began) / 60}


def busy_cores() -> float:
    """Return how many cores other programs keep busy, in half a second without any of ours.

    Rivals do not suffer alike: where 2 of 2 cores were shared, PyTorch's training fell from 33
    images/s to 4 (its threads wait for each other), TensorFlow's from 15 to 9.
    """

    def cpu():
        user, nice, system, _, _, irq, soft, steal = map(int, text().split()[1:9])
        return (user + nice + system + irq + soft + steal) / os.sysconf("SC_CLK_TCK")

    def text():
        return Path("/proc/stat").read_text().splitlines()[0]

    if not Path("/proc/stat").exists():
        return 0.0
    before, began = cpu(), time.perf_counter()
    time.sleep(0.5)
    return (cpu() - before) / (time.perf_counter() - began)


def kept() -> list[dict]:
    """Return the rows' records kept."""
    return records.kept(RESULTS, "make bench")


def keep(name: str, record: dict, machine: dict) -> None:
    """Keep a row's record; see records.py."""
    records.keep(RESULTS, name, record, machine, order=list(ROWS))


def verdict(record: dict) -> str:
    """Return pass, short, or why there is no figure."""
    if "error" in record:
        return f"failed: {record['error']}"
    if record["pass"] is None:
        return f"not measurable here: {record['reason']}"
    text = "pass" if record["pass"] else "short"
    if not record["pass"] and record.get("floor_reached"):
        text += f" (over its floor of {record['floor']:g})"
    if record["busy_cores"] > BUSY:
        text += f"; doubtful, other programs kept {record['busy_cores']:g} cores busy"
    return text


def shown(record: dict) -> str:
    """Return a value with its unit, to three digits."""
    value = record["value"]
    if value is None:
        return "-"
    return f"{value:.0f}{record['unit']}" if abs(value) >= 100 else f"{value:.3g}{record['unit']}"


def in_words(record: dict) -> str:
    return f"{shown(record):>8}  ({record['target']})  {verdict(record)}"


def table(rows: list[dict]) -> str:
    """Return the rows kept as a Markdown table, with the machine below."""
    lines = ["| row | ours, against | measured | target | |", "|---|---|---|---|---|"]
    for row in rows:
        against = f", against {row['against']}" if row["against"] else ""
        lines.append(
            f"| `{row['name']}` | {row['ours']}{against} "
            f"| {shown(row)} | {row['target']} | {verdict(row)} |"
        )
    machine = rows[-1]["machine"]
    processor = f"{machine['processor']} ({', '.join(machine['units'])})"
    lines += ["", records.in_words(machine | {"processor": processor}, PACKAGES[:4])]
    return "\n".join(lines)


TORCH = "plain PyTorch, the faster of eager and compiled"
# fmt: off
ROWS = {
    "predict-one": Row(predict_one,
        "predict.py on one photograph, the whole process", "`import tensorflow`", "<=", 0.15),
    "predict-one-seconds": Row(predict_one_seconds,
        "the same, in seconds", "", "<=", 0.5, " s"),
    "predict-one-memory": Row(predict_one_memory,
        "the same, peak memory", "", "<=", 200, " MB"),
    "predict-2000-float32": Row(functools.partial(predict_many, "float32"),
        "predict.py on 2,000 photographs, the whole process, 64x64", "PyTorch in eval mode",
        ">=", 1.3),
    "predict-2000-bfloat16": Row(functools.partial(predict_many, "bfloat16"),
        "the same with --precision bfloat16", "PyTorch in bfloat16", ">=", 1.3),
    "train-64": Row(functools.partial(train, 64),
        "training, 64x64, batch 32", TORCH, ">=", 1.25, floor=1.15),
    "finetune-224": Row(functools.partial(train, 224),
        "fine-tuning, 224x224, batch 8, BatchNorms and conv1 frozen", TORCH, ">=", 1.3),
    "deterministic": Row(deterministic,
        "training, 64x64, batch 32, with --deterministic", "without", ">=", 0.9),
    "ceiling-64": Row(functools.partial(ceiling, 64),
        "FLOP/s of training, 64x64", "the largest rate of a matrix product", ">=", 65, "%"),
    "ceiling-224": Row(functools.partial(ceiling, 224),
        "FLOP/s of fine-tuning, 224x224", "the largest rate of a matrix product", ">=", 90, "%"),
    "pipeline": Row(pipeline,
        "images/s of the input pipeline, 64x64, crops, on one core", "the training step's",
        ">=", 5),
    "fit-overhead": Row(fit_overhead,
        "time of `fit`, 64x64, batch 32, over the compiled step alone", "", "<=", 5, "%"),
    "prepro": Row(prepro,
        "images/s of prepro.py, the whole process",
        "ImageDataGenerator, to JPEG files and back", ">=", 25),
    "linear-prepro": Row(linear_prepro,
        "prepro.py's time an example, net of start-up, at 80,000 over that at 8,000", "",
        "<=", 10, "%"),
    "memory-prepro": Row(memory_prepro,
        "memory of prepro.py and its workers, for 80,800 training images", "", "<=", 1000, " MB"),
    "linear-train": Row(linear_train,
        "training's time an example, small network, at 80,800 over that at 8,080", "",
        "<=", 10, "%"),
    "memory-train": Row(memory_train,
        "peak memory of training, 80,800 examples less that of 8,080", "", "<=", 150, " MB"),
}
# fmt: on

if __name__ == "__main__":
    cli.run(main)
