"""Bytes that nobody thought of: a coverage-guided fuzzer on the decoder and both file readers.

python benchmarks/faulty/fuzz.py photographs|models|arrays CORPUS [flags of libFuzzer]

It needs benchmarks/faulty/requirements.txt. The branches of our modules and of Pillow's Python
guide it; those of the C libraries do not. Limits and layers are small, so that an input costs
little: what the real ones cost, the rows of photographs.py measure.
"""

import contextlib
import importlib
import io
import os
import random
import re
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import patch

from classifier.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
CORPUS = ROOT / "tests" / "corpus"
FOUND = ROOT / "logs" / "fuzz"  # where what crashes is kept
LONGEST = {"photographs": 4096, "models": 16_384, "arrays": 16_384}  # bytes of an input
# The libraries alone are 90 MB; 5 s is a hang on any machine.
FLAGS = ("-timeout=5", "-rss_limit_mb=600", "-print_final_stats=1")
MOST = 3  # inputs that crash, after which a row ends
# Whose branches guide the fuzzer.
MODULES = (
    "classifier.data.arrays", "classifier.data.duplicates", "classifier.data.images",
    "classifier.prediction.model_file", "PIL.BmpImagePlugin", "PIL.GifImagePlugin",
    "PIL.JpegImagePlugin", "PIL.MpoImagePlugin", "PIL.PngImagePlugin", "PIL.PpmImagePlugin",
    "PIL.TiffImagePlugin", "PIL.WebPImagePlugin",
)  # fmt: skip
CLASSES = ["a", "b"]
LAYERS = {  # of the models: a network of three layers
    "conv1": {"kernel": (1, 1, 3, 4), "bias": (4,)},
    "bn_conv1": dict.fromkeys(("gamma", "beta", "moving_mean", "moving_variance"), (4,)),
    "fc2": {"kernel": (4, 2), "bias": (2,)},
}


def photographs(data: bytes) -> None:
    """Decode a photograph as prepro.py does; raise what it should not, ImageError apart."""
    from classifier.data.duplicates import perceptual_hash
    from classifier.data.images import ImageError, read_rgb, square

    try:
        rgb = read_rgb(io.BytesIO(data))
    except ImageError as error:
        one_line(error)
    else:
        assert square(rgb, 8).shape == (8, 8, 3)
        perceptual_hash(rgb)


def models(data: bytes) -> None:
    """Read a model file as predict.py does; raise what it should not, UserError apart."""
    from classifier.prediction import model_file
    from classifier.prediction.verdict import verdicts

    def compute(path):
        import numpy as np

        weights, info = model_file.load_weights(path)
        verdicts(model_file.head_of(weights, info), np.ones((1, 4), np.float32))

    read(compute, data)


def arrays(data: bytes) -> None:
    """Read all of an arrays file; raise what it should not, UserError apart."""
    from classifier.data.arrays import Arrays
    from classifier.data.splits import SPLITS

    def compute(path):
        with Arrays(path) as found:
            try:
                found.check_content()
            except UserError as error:
                one_line(str(error).replace(str(path), "FILE"))
            for split in SPLITS:
                found.read(split, slice(0, 4))
                for part in (found.labels, found.sources, found.copies, found.hashes):
                    part(split)

    read(compute, data)


def read(reader: Callable[[Path], object], data: bytes) -> None:
    """Call a reader of files with a file of these bytes."""
    number, name = tempfile.mkstemp(suffix=".h5", dir=memory())
    path = Path(name)
    try:
        os.write(number, data)
        os.close(number)
        reader(path)
    except UserError as error:
        one_line(str(error).replace(name, "FILE"))
    except OSError as error:  # the system's, which the scripts tell in a line
        if error.errno is None and "errno =" not in str(error):
            raise
    finally:
        path.unlink()


def one_line(text: object) -> None:
    """Assert that an error is told in one short line."""
    assert str(text).isprintable(), repr(str(text))
    assert 0 < len(str(text)) < 300, str(text)


def memory() -> str | None:
    """Return a folder that is kept in memory, where the system has one."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108


@contextlib.contextmanager
def small() -> Iterator[None]:
    """Make limits and layers small, so that an input takes little, in this block."""
    from classifier.data import arrays as arrays_file
    from classifier.data import images
    from classifier.prediction import model_file

    limits = dict.fromkeys(("MAX_PIXELS", "MAX_PIXELS_WHOLE", "MAX_PIXELS_WEBP"), 200_000)
    with (
        patch.multiple(images, **limits, HALVE_ABOVE=10_000, BAND=1000),
        patch.object(model_file, "weight_shapes", lambda _: LAYERS),
        patch.object(arrays_file, "MIN_SIZE", 2),
    ):
        yield


def sound(folder: Path) -> None:
    """Write sound files to start from, FOLDER/models/* and FOLDER/arrays/*, small as `small` is."""
    from dataclasses import asdict

    import h5py
    import numpy as np

    from classifier.data import arrays as arrays_file
    from classifier.data.splits import SPLITS
    from classifier.hdf5 import write_json
    from classifier.prediction import model_file

    for form in ("earliest", "latest"):  # of HDF5
        for name in ("models", "arrays"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        with h5py.File(folder / "models" / form, "w", libver=form) as file:
            for layer, shapes in LAYERS.items():
                for part, shape in shapes.items():
                    file[f"model_weights/{layer}/{layer}/{part}"] = np.ones(shape, np.float32)
            info = asdict(model_file.ModelInfo(CLASSES, 32, "clean"))
            if form == "earliest":
                info["known"] = {"ceiling": 0.0, "energy": [0.0, 1.0], "distance": [0.0, 1.0],
                                 "threshold": 0.5}  # fmt: skip
                for part, shape in {
                    "centre": 4,
                    "projection": (4, 1),
                    "means": (2, 1),
                    "spread": 1,
                }.items():
                    file[f"known/{part}"] = np.ones(shape, np.float32)
            write_json(file, "classifier", {"version": model_file.VERSION, **info})
        with h5py.File(folder / "arrays" / form, "w", libver=form) as file:
            for split in SPLITS:
                group = file.create_group(split)
                group["X"] = np.zeros((3, 2, 2, 3), np.uint8)
                group["Y"] = np.eye(2, dtype=np.uint8)[[0, 1, 0]]
                group["source"] = np.array([b"train/a/1.jpg"] * 3, h5py.string_dtype("utf-8", 13))
                group["hash"] = np.zeros((3, 2, 32), np.uint8)
                group["copy"] = np.zeros(3, np.uint16)
            kept = arrays_file.Description(CLASSES, 2, "clean", False, 0, 0, 50)
            write_json(file, "description", {"version": arrays_file.VERSION, **asdict(kept)})


def in_place(data: bytes, longest: int, seed: int) -> bytes:
    """Return HDF5 data with a few numbers changed: what lies behind them stays where it is."""
    import atheris

    chance = random.Random(seed)
    if len(data) < 100 or chance.random() < 0.1:
        return atheris.Mutate(data, longest)
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        width = chance.choice((1, 1, 2, 4, 8))
        place = chance.randrange(len(data) - width)
        (old,) = struct.unpack("<Q", data[place : place + width].ljust(8, b"\0"))
        top = 256**width
        elsewhere = chance.randrange(len(data)) // 8 * 8  # an address, perhaps
        new = chance.choice(
            (old + 1, old - 1, old ^ 1 << chance.randrange(8 * width), 0, top - 1, top // 2,
             elsewhere, chance.randrange(top))
        )  # fmt: skip
        changed[place : place + width] = (new % top).to_bytes(width, "little")
    return bytes(changed)


def fuzz_photographs(row, folder: Path, seed: int, seconds: int = 300) -> None:
    """Fuzz the decoder of photographs for so many seconds."""
    _fuzz(row, folder, seed, "photographs", seconds)


def fuzz_models(row, folder: Path, seed: int, seconds: int = 150) -> None:
    """Fuzz the reader of model files for so many seconds."""
    _fuzz(row, folder, seed, "models", seconds)


def fuzz_arrays(row, folder: Path, seed: int, seconds: int = 150) -> None:
    """Fuzz the reader of arrays files for so many seconds."""
    _fuzz(row, folder, seed, "arrays", seconds)


def _fuzz(row, folder, seed, target, seconds):
    """Fuzz a target; each input that it was given is a case, each that it crashed on is lost."""
    from faulty.row import run

    corpus, end, losses = folder / "corpus", time.monotonic() + seconds, 0
    corpus.mkdir()
    sound(folder / "sound")
    begin = [folder / "sound" / target] if target in ("models", "arrays") else []
    FOUND.mkdir(parents=True, exist_ok=True)
    while losses < MOST and (left := round(end - time.monotonic())) > 0:
        flags = (f"-max_total_time={left}", f"-max_len={LONGEST[target]}", f"-seed={seed + 1}",
                 f"-artifact_prefix={FOUND}/{target}-")  # fmt: skip
        words = "benchmarks/faulty/fuzz.py", target, corpus, CORPUS / target, *begin, *FLAGS, *flags
        ended = run(*words, folder=folder, limit=left + 60)
        if "No module named 'atheris'" in ended.err:
            row.add(target, "no atheris: pip install -r benchmarks/faulty/requirements.txt")
            return
        tried = re.search(r"number_of_executed_units: (\d+)", ended.err)
        slowest = re.search(r"slowest_unit_time_sec: (\d+)", ended.err)
        row.tried += int(tried[1]) if tried else 0
        row.seconds = max(row.seconds, float(slowest[1]) if slowest else 0)
        row.megabytes = max(row.megabytes, ended.megabytes)
        if ended.status:
            kept = re.search(r"Test unit written to (.*)", ended.err)
            lines = re.findall(
                r"^\w[\w.]*(?:Error|Exception).*|^SUMMARY.*", ended.err, re.MULTILINE
            )
            said = lines[0] if lines else ended.err[-300:]
            row.lost.append(f"{kept[1] if kept else target}: {said}")
            losses, seed = losses + 1, seed + 1


def main() -> None:
    """Fuzz one target until it crashes, or as long as the flags say."""
    import atheris

    with atheris.instrument_imports(include=["classifier", "PIL"]):
        for name in MODULES:
            importlib.import_module(name)

    target = {"photographs": photographs, "models": models, "arrays": arrays}[sys.argv.pop(1)]
    options = {} if target is photographs else {"custom_mutator": in_place}
    with small():
        atheris.Setup(sys.argv, target, **options)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
