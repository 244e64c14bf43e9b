"""Files from strangers: code in them, ways to other files, bombs of memory and time.

Each hostile file is a sound one with one thing spoiled, or no file of this program at all.

python benchmarks/faulty/hostile.py MODEL ARRAYS CHECKPOINT     writes the three sound ones
"""

import base64
import io
import itertools
import json
import marshal
import os
import pickle
import shutil
import struct
import sys
import tarfile
import zipfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import h5py
import numpy as np
from h5py import h5d, h5p, h5s, h5t, h5z

from benchmarks.faulty.row import ROOT, Row, not_refused, run, too_dear
from classifier import hdf5
from classifier.architecture import weight_shapes
from classifier.data import arrays as arrays_file
from classifier.data.arrays import Arrays, Description, Example
from classifier.data.splits import SPLITS
from classifier.prediction import model_file

SECRET = "A-SECRET-OF-SOMEONE"
MANY = 1_000_000  # 10,000,000 links take h5py two minutes
SIZE = 32  # pixels
RUN = "one"  # name of the run whose checkpoint there is
PHOTO = ROOT / "images/test.jpg"


@dataclass(frozen=True)
class Bait:
    """What a hostile file is after.

    Attributes:
        folder: where it lies.
    """

    folder: Path

    @property
    def canary(self) -> Path:
        """The file that the code in hostile files would write."""
        return self.folder / "canary"

    def lay(self) -> None:
        """Write the files that hostile files lead to: secrets, and a pipe that never answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "secret.txt").write_text(f"{SECRET}\n" * 10_000)
        with h5py.File(self.folder / "secret.h5", "w") as file:
            hdf5.write_json(file, "classifier", _described([SECRET, f"{SECRET}-2"]))
            file["x"] = np.ones((7, 7, 3, 64), np.float32)
        if not (self.folder / "pipe").exists():
            os.mkfifo(self.folder / "pipe")
        with tarfile.open(self.folder / "up.tar", "w") as tar:
            tar.addfile(tarfile.TarInfo("../canary"), io.BytesIO())

    def taken(self, said: str) -> str:
        """Return what a program that said this has done with it, "" where nothing."""
        if self.canary.exists() or (self.folder.parent / "canary").exists():
            return "code was run, or a file written elsewhere"
        if SECRET in said:
            return "a secret was read"
        return "a terminal was commanded" if "\x1b" in said else ""


# --- sound files ---


def _described(classes, **changes):
    return {
        "version": model_file.VERSION,
        **asdict(model_file.ModelInfo(classes, SIZE, "clean", training={"run": RUN})),
    } | changes


def sound_model(path: Path, classes: list[str], **options) -> None:
    """Write a model file as Keras and train.py write it, weights random.

    Args:
        path: of the file.
        classes: class names.
        options: of h5py.File.
    """
    random = np.random.default_rng(0)
    with h5py.File(path, "w", **options) as file:
        for layer, shapes in weight_shapes(len(classes)).items():
            group = file.create_group(f"model_weights/{layer}")
            for name, shape in shapes.items():
                if name == "kernel":
                    value = random.standard_normal(shape, np.float32)
                    value *= np.sqrt(2 / np.prod(shape[:-1]))
                else:
                    value = np.full(shape, name in ("gamma", "moving_variance"), np.float32)
                group[f"resnet50/{layer}/{name}"] = value
        hdf5.write_json(file, "classifier", _described(classes))


def sound_arrays(path: Path, classes: list[str], each: int = 4) -> None:
    """Write an arrays file of random pictures of 32 pixels, `each` of a class in each split."""
    counts = {split: each * len(classes) for split in SPLITS}
    starts = dict(zip(SPLITS, itertools.accumulate(counts.values(), initial=0), strict=False))
    plan = {
        split: [Example(starts[split] + i, 0, i % len(classes)) for i in range(count)]
        for split, count in counts.items()
    }
    total = sum(counts.values())
    sources = [f"train/{classes[i % len(classes)]}/{i}.jpg" for i in range(total)]
    random = np.random.default_rng(0)
    hashes = random.integers(0, 256, (total, 2, 32), np.uint8)
    description = Description(classes, SIZE, "clean", False, 0, 0, 50)
    with arrays_file.create(path, plan, sources, hashes, description) as writer:
        for split, count in counts.items():
            writer.write(split, 0, random.integers(0, 256, (count, SIZE, SIZE, 3), np.uint8))


def sound_run(path: Path, arrays: Path, words: list[str]) -> None:
    """Write a checkpoint of a run that is over, of train.py with these words."""
    import train
    from classifier.training import checkpoint
    from classifier.training.run import Run

    args, _ = train.parse_args(words)
    with Arrays(arrays) as opened:
        fingerprint = opened.fingerprint
    chosen = {name: getattr(args, name) for name in train.DECISIVE}
    kept = Run(chosen, fingerprint, id=RUN, precision="float32", finished=True)
    with h5py.File(path, "w") as file:
        hdf5.write_json(file, "run", {"version": checkpoint.VERSION, **kept.to_json()})


# --- code: the layers by which Keras' loader was made to run it or to reach for files ---


def lambda_layer(bait: Bait) -> dict:
    """Return the configuration of a Lambda layer whose bytecode writes the canary."""
    source = f"lambda x: [open({str(bait.canary)!r}, 'w').close(), x][1]"
    code = compile(source, "<hostile>", "eval").co_consts[0]
    text = base64.b64encode(marshal.dumps(code)).decode()
    function = {"code": text, "defaults": None, "closure": None}
    return _layer("Lambda", function={"class_name": "__lambda__", "config": function})


def _layer(name, **config):
    return {
        "module": "keras.layers",
        "class_name": name,
        "config": {"name": "hostile", **config},
        "registered_name": None,
        "build_config": {"input_shape": [None, 2]},
        "inbound_nodes": [],
    }


def _calls(module, name, **arguments):
    function = {"module": module, "class_name": "function", "config": name,
                "registered_name": "function"}  # fmt: skip
    return _layer("Lambda", function=function, arguments=arguments)


class Bomb:
    """What writes the canary as it is unpickled."""

    def __init__(self, bait: Bait):
        self.bait = bait

    def __reduce__(self):
        return os.system, (f"touch '{self.bait.canary}'",)


def _pickled(bait):
    return pickle.dumps(Bomb(bait))


LAYERS: dict[str, Callable[[Bait], list[dict]]] = {
    "CVE-2024-3660, bytecode in a Lambda": lambda bait: [lambda_layer(bait)],
    "CVE-2025-1550, a function of any module": lambda bait: [
        _calls("os", "system", command=f"touch '{bait.canary}'")
    ],
    "CVE-2025-8747, get_file of Keras": lambda bait: [
        _calls("keras.utils", "get_file", fname=str(bait.canary),
               origin=(bait.folder / "secret.txt").as_uri())
    ],
    "CVE-2025-9906, safe mode switched off": lambda bait: [
        _calls("keras.config", "enable_unsafe_deserialization"), lambda_layer(bait)
    ],
    "CVE-2025-12058, a vocabulary of any file": lambda bait: [
        _layer("StringLookup", vocabulary=str(bait.folder / "secret.txt"))
    ],
    "CVE-2025-12060, an archive that leads up": lambda bait: [
        _calls("keras.utils", "get_file", fname="x", extract=True, cache_dir=str(bait.folder),
               origin=(bait.folder / "up.tar").as_uri())
    ],
    "CVE-2025-49655, a pickle for PyTorch": lambda bait: [
        _layer("TorchModuleWrapper", module=base64.b64encode(_pickled(bait)).decode())
    ],
    "CVE-2026-1462, a SavedModel elsewhere": lambda bait: [
        _layer("TFSMLayer", filepath=str(bait.folder), call_endpoint="serve")
    ],
    "CVE-2026-12479, a layer whose name leads up": lambda bait: [
        _layer("Dense", units=2) | {"name": "../../canary"}
    ],
}  # fmt: skip


def _sequential(layers):
    first = {"module": "keras.layers", "class_name": "InputLayer", "registered_name": None,
             "config": {"batch_shape": [None, 2], "dtype": "float32", "name": "input"}}  # fmt: skip
    return {
        "module": "keras",
        "class_name": "Sequential",
        "config": {"name": "s", "layers": [first, *layers]},
        "registered_name": None,
        "build_config": {"input_shape": [None, 2]},
    }


def keras_zip(path: Path, layers: list[dict]) -> None:
    """Write a model of Keras' newer format, .keras."""
    weights = io.BytesIO()
    with h5py.File(weights, "w") as file:
        file.create_group("layers")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.15.1"}))
        archive.writestr("config.json", json.dumps(_sequential(layers)))
        archive.writestr("model.weights.h5", weights.getvalue())


def keras_h5(path: Path, layers: list[dict]) -> None:
    """Write a model of Keras' HDF5 format, where safe_mode was not heeded: CVE-2025-9905."""
    with h5py.File(path, "w") as file:
        _add_config(file, layers)
        file.create_group("model_weights").attrs["layer_names"] = np.array([b"hostile"])
        file.create_group("model_weights/hostile").attrs["weight_names"] = np.array([], "S1")


def _add_config(file, layers):
    file.attrs["model_config"] = json.dumps(_sequential(layers))
    file.attrs["keras_version"], file.attrs["backend"] = "3.15.1", "tensorflow"


def _beside(path, layers):
    with h5py.File(path, "r+") as file:
        _add_config(file, layers)
        file.attrs["training_config"] = json.dumps({"loss": layers[0], "optimizer": layers[0]})


# --- HDF5 ---

Spoil = Callable[[Path, Bait], None]


def on_file(change: Callable[[h5py.File, Bait], None], **options) -> Spoil:
    """Return what changes a file by h5py."""

    def spoil(path, bait):
        with h5py.File(path, "r+", **options) as file:
            change(file, bait)

    return spoil


def instead(name: str, make: Callable[[h5py.File, str, Bait], object], **options) -> Spoil:
    """Return what puts something else at a place in a file."""

    def change(file, bait):
        if name in file:
            del file[name]
        made = make(file, name, bait)
        if made is not None:
            file[name] = made

    return on_file(change, **options)


def elsewhere(name: str, shape: tuple, kind: type) -> dict[str, Spoil]:
    """Return the ways to have a dataset of a shape and kind read from another place."""

    def link(target, inside="x"):
        return lambda file, name, bait: h5py.ExternalLink(str(bait.folder / target), inside)

    def raw(target):
        def make(file, name, bait):
            at = target if target.startswith("/") else str(bait.folder / target)
            file.create_dataset(name, shape, kind, external=at)

        return make

    def virtual(file, name, bait):
        layout = h5py.VirtualLayout(shape, kind)
        layout[:] = h5py.VirtualSource(str(bait.folder / "secret.h5"), "x", shape)
        file.create_virtual_dataset(name, layout)

    ways = {
        "an external link": link("secret.h5", name if name == "classifier" else "x"),
        "an external link to a pipe": link("pipe"),
        "an external link to a device": lambda *_: h5py.ExternalLink("/dev/zero", "x"),
        "a soft link": lambda *_: h5py.SoftLink("/moved"),
        "a soft link to itself": lambda file, name, bait: h5py.SoftLink(f"/{name}"),
        "CVE-2026-1669, external storage": raw("secret.txt"),
        "external storage in /etc/passwd": raw("/etc/passwd"),
        "external storage in a pipe": raw("pipe"),
        "external storage in a device": raw("/dev/zero"),
        "a virtual dataset": virtual,
    }
    return {f"{name.split('/')[-1]}: {how}": instead(name, make) for how, make in ways.items()}


def plan(**settings) -> h5p.PropDCID:
    """Return how a dataset is created: chunks, a filter by its number, when space is taken."""
    made = h5p.create(h5p.DATASET_CREATE)
    if "chunk" in settings:
        made.set_chunk(settings["chunk"])
    if "filter" in settings:
        made.set_filter(settings["filter"], h5z.FLAG_OPTIONAL)
    if settings.get("early"):
        made.set_alloc_time(h5d.ALLOC_TIME_EARLY)
    return made


def planned(shape: tuple, kind=h5t.IEEE_F32LE, **settings):
    """Return what creates a dataset of a shape, nothing written."""

    def make(file, name, bait):
        parent, _, last = name.rpartition("/")
        space = h5s.create_simple(shape)
        h5d.create(
            file.require_group(parent or "/").id, last.encode(), kind, space, plan(**settings)
        )

    return make


def stored(value, **options):
    """Return what creates a dataset of a value."""

    def make(file, name, bait):
        file.create_dataset(name, data=value() if callable(value) else value, **options)

    return make


def grow_header(path: Path, total: int, first: bytes = b"") -> None:
    """Grow the header of the root group by empty messages, of so many bytes, most of them holes.

    HDF5 reads all of it as it opens the file. `first` stands in place of its first bytes, which
    tell that it is a group.
    """
    with path.open("r+b") as file:
        start = file.read(96)  # the superblock, version 0
        assert start[8] == 0
        (root,) = struct.unpack_from("<Q", start, 64)
        file.seek(root)
        version, _, messages, links, size = struct.unpack("<BBHII", file.read(16)[:12])
        body, block, message = file.read(size), 65_536, struct.Struct("<HHB3x")
        count = total // block
        end = -(-file.seek(0, os.SEEK_END) // 8) * 8
        file.seek(end)
        size += count * block
        file.write(struct.pack("<BBHII4x", version, 0, messages + count, links, size))
        file.write(first + body[len(first) :])
        begin = file.tell()
        for place in range(begin, begin + count * block, block):
            file.seek(place)
            file.write(message.pack(0, block - message.size, 0))
        file.truncate(begin + count * block)
        _point(file, 64, end)
    end_at(path, begin + count * block)


def grow_names(path: Path, total: int) -> None:
    """Have the names of the root group, which HDF5 reads at the first look-up, take so much."""
    with path.open("r+b") as file:
        start = file.read(4096)
        heap = start.find(b"HEAP")
        size, free, place = struct.unpack_from("<QQQ", start, heap + 8)
        file.seek(place)
        names, end = file.read(size), file.seek(0, os.SEEK_END)
        file.write(names)
        file.seek(heap + 8)
        file.write(struct.pack("<QQQ", total, free, end))
    end_at(path, end + total)


def end_at(path: Path, size: int) -> None:
    """Let a file end here, by its own word too."""
    os.truncate(path, size)
    with path.open("r+b") as file:
        _point(file, 40, size)


def _point(file, at, place):
    file.seek(at)
    file.write(struct.pack("<Q", place))


def many_links(group: h5py.Group) -> None:
    """Add MANY names to a group."""
    links = group.id.links
    for number in range(MANY):
        links.create_soft(b"%d" % number, b"x")


def many_attributes(group: h5py.Group) -> None:
    """Add MANY attributes to a group of the newer kind, which keeps them apart."""
    space = h5s.create(h5s.SCALAR)
    for number in range(MANY):
        h5py.h5a.create(group.id, b"%d" % number, h5t.STD_I8LE, space)


def rewritten(path: Path, change: Callable[[h5py.File], None]) -> None:
    """Write a file anew in HDF5's newer format, and change it."""
    old = path.rename(path.with_suffix(".old"))
    with h5py.File(old) as source, h5py.File(path, "w", libver="latest") as file:
        file.create_group("model_weights")
        source.copy("classifier", file)
        for layer in source["model_weights"]:
            source.copy(f"model_weights/{layer}", file["model_weights"])
        change(file)
    old.unlink()


def nested(file: h5py.File, bait: Bait) -> None:
    """Put the weights of a layer below 10,000 groups."""
    del file["model_weights/conv1"]
    group = file.create_group("model_weights/conv1")
    for _ in range(10_000):
        group = group.create_group("g")


def loops(file: h5py.File, bait: Bait) -> None:
    """Have the groups of all layers hold each other and themselves, again and again."""
    groups = list(file["model_weights"].values())
    for number, group in enumerate(groups):
        del group["resnet50"]
        for other in range(50):
            group[f"{other}"] = groups[(number + other) % len(groups)]


# --- what is said in a file ---


def said(name: str, **changes) -> Spoil:
    """Return what changes the JSON of a file."""

    def spoil(path, bait):
        with h5py.File(path, "r+") as file:
            kept = hdf5.read_json(file, name)
            del file[name]
            hdf5.write_json(file, name, kept | changes)

    return spoil


def as_text(name: str, text: Callable[[bytes], bytes]) -> Spoil:
    """Return what changes the text of the JSON of a file."""

    def change(file, bait):
        kept = file[name][()].tobytes()
        del file[name]
        file[name] = np.frombuffer(text(kept), np.uint8)

    return on_file(change)


def texts(name: str, number: str) -> dict[str, Spoil]:
    """Return JSON that is a bomb, or none, for a dataset of a file; `number` is an entry of it."""
    count = {
        "100,000,000 bytes": stored(lambda: np.full(100_000_000, ord(" "), np.uint8)),
        "a compressed bomb": stored(
            lambda: np.zeros(10_000_000, np.uint8), chunks=(1_000_000,), compression="gzip"
        ),
        "10 TB never written": planned((10**13,), h5t.STD_U8LE),
        "text of variable length": stored(np.array(["{}"], h5py.string_dtype())),
        "no text": stored(np.full(100, 0xFF, np.uint8)),
        "a pickle": lambda file, name, bait: np.frombuffer(_pickled(bait), np.uint8),
    }
    changed = {
        "nested 1,000,000 deep": lambda kept: b"[" * 1_000_000,
        "objects nested 1,000,000 deep": lambda kept: b'{"a":' * 1_000_000,
        "a number of 1,000,000 digits": lambda kept: kept.replace(
            f'"{number}": '.encode(), f'"{number}": {"9" * 1_000_000}'.encode()
        ),
        "a number of 4,000 digits": lambda kept: kept.replace(
            f'"{number}": '.encode(), f'"{number}": {"9" * 4000}'.encode()
        ),
        "10,000,000 lists": lambda kept: b"[" + b"[]," * 10_000_000 + b"[]]",
        "2,000,000 keys": lambda kept: (
            b"{" + b",".join(b'"%d":0' % i for i in range(2_000_000)) + b"}"
        ),
        "another set of keys after the first": lambda kept: kept[:-1] + b', "classes": [1, 2]}',
        "a list": lambda kept: b"[1, 2]",
        "a number": lambda kept: b"1e999",
        "a version of many lines": lambda kept: b'{"version": "' + b"a\\n" * 1000 + b'"}',
    }
    return {
        **{f"{name}: {how}": instead(name, make) for how, make in count.items()},
        **{f"{name}: {how}": as_text(name, text) for how, text in changed.items()},
    }


NAMES = {
    "that command a terminal": "\x1b]0;owned\x07\x1b[2Jcat",
    "of two lines": "cat\nUserError: all is well",
    "written backwards": "cat\u202egpj.exe",
    "of 1,000,000 letters": "a" * 1_000_000,
    "that are empty": "",
    "of half a letter": "\ud800",
}

# --- model files ---

KERNEL = "model_weights/conv1/resnet50/conv1/kernel"
HEAD = "model_weights/fc3/resnet50/fc3/kernel"
VARIANCE = "model_weights/bn_conv1/resnet50/bn_conv1/moving_variance"
CLASSES = ["cat", "dog", "owl"]


def weights(change: Callable[[np.ndarray], np.ndarray], name: str = KERNEL) -> Spoil:
    """Return what changes the numbers of a weight."""

    def renumber(file, bait):
        value = file[name][()]
        del file[name]
        file[name] = change(value)

    return on_file(renumber)


def _replaced(write):
    """Return what writes another file in the place of a sound one."""

    def spoil(path, bait):
        path.unlink()
        write(path, bait)

    return spoil


def _blown_up(path, bait):
    with h5py.File(path, "r+") as file:
        for layer in file["model_weights"]:
            for name, part in hdf5.find_datasets(file[f"model_weights/{layer}"]).items():
                if name == "kernel":
                    part[...] = 1e38


KERAS_ALONE = {
    f"{name}, {form}": _replaced(lambda path, bait, make=make, write=write: write(path, make(bait)))
    for name, make in LAYERS.items()
    for form, write in (
        ("in a .keras file", keras_zip),
        ("in an .h5 file (CVE-2025-9905)", keras_h5),
    )
}
OTHER_FILES = {
    "a pickle": _replaced(lambda path, bait: path.write_bytes(_pickled(bait))),
    "a script": _replaced(lambda path, bait: path.write_text(f"open({str(bait.canary)!r}, 'w')")),
    "an archive that leads up": _replaced(
        lambda path, bait: shutil.copy(bait.folder / "up.tar", path)
    ),
    "a file of zeros": _replaced(lambda path, bait: path.write_bytes(bytes(1_000_000))),
    "a hole of 1 TB": _replaced(lambda path, bait: (path.touch(), os.truncate(path, 1 << 40))),
    "an empty file": _replaced(lambda path, bait: path.touch()),
    "a pipe": _replaced(lambda path, bait: os.mkfifo(path)),
    "a link to a device": _replaced(lambda path, bait: path.symlink_to("/dev/zero")),
    "a link to a secret": _replaced(lambda path, bait: path.symlink_to(bait.folder / "secret.txt")),
}
MODELS: dict[str, Spoil] = {
    **KERAS_ALONE,
    **OTHER_FILES,
    **elsewhere("classifier", (1000,), np.uint8),
    **elsewhere(KERNEL, (7, 7, 3, 64), np.float32),
    "conv1: a soft link": instead(
        "model_weights/conv1", lambda *_: h5py.SoftLink("/model_weights/bn_conv1")
    ),
    "conv1: an external link": instead(
        "model_weights/conv1",
        lambda file, name, bait: h5py.ExternalLink(str(bait.folder / "secret.h5"), "/"),
    ),
    **texts("classifier", "image_size"),
    **{
        f"class names {how}": said("classifier", classes=["a", "b", name])
        for how, name in NAMES.items()
    },
    "a leak that commands a terminal": said("classifier", leak="\x1b[2J"),
    "a protocol of two lines": said("classifier", protocol="clean\nUserError"),
    "100,001 class names": said("classifier", classes=[f"{n}" for n in range(100_001)]),
    "class names that are numbers": said("classifier", classes=[1, 2, 3]),
    "classes that are a text": said("classifier", classes="abc"),
    "images of 1,000,000 pixels": said("classifier", image_size=1_000_000),
    "enlarged to 4,096 pixels": said("classifier", enlarge_to=4096),
    "enlarged to 1,000,000 pixels": said("classifier", enlarge_to=1_000_000),
    "enlarged to less than nothing": said("classifier", enlarge_to=-1),
    **{
        f"temperature {value}": said("classifier", temperature=value)
        for value in (float("nan"), float("inf"), 0.0, -1.0, 1e-300, "1.0", None)
    },
    "known: another part": said("classifier", known={"__class__": "os.system"}),
    "training that is a list": said("classifier", training=[]),
    "training: a history of texts": said("classifier", training={"history": {"loss": "abc"}}),
    "training: a history that is a list": said("classifier", training={"history": [1]}),
    "training: a command that is a list": said("classifier", training={"command": ["rm"]}),
    "training: a best epoch of 4,000 digits": said(
        "classifier", training={"best_epoch": 10**4000}
    ),
    "training: a loss of 4,000 digits": said(
        "classifier", training={"history": {"loss": [10**4000]}}
    ),
    "weights of NaN": weights(lambda value: value * np.nan),
    "weights of infinity": weights(lambda value: value + np.inf),
    "weights of 1e300": weights(lambda value: value.astype(np.float64) + 1e300),
    "weights of 1e38": _blown_up,
    "a head of 1e38": weights(lambda value: value * 0 + 1e38, HEAD),
    "a variance below 0": weights(lambda value: -value, VARIANCE),
    "weights that are whole numbers": weights(lambda value: value.astype(np.int32)),
    "weights that are texts": weights(lambda value: value.astype("S4")),
    "weights that are truths": weights(lambda value: value > 0),
    "weights that are complex": weights(lambda value: value + 1j),
    "weights of compound type": weights(lambda value: np.zeros(value.shape, "f4,f4")),
    "weights of variable length": instead(
        KERNEL, planned((7, 7, 3, 64), h5t.vlen_create(h5t.IEEE_F32LE))
    ),
    "weights that are references": instead(KERNEL, planned((7, 7, 3, 64), h5t.STD_REF_OBJ)),
    "weights transposed": weights(np.transpose),
    "weights without a shape": instead(
        KERNEL, lambda file, name, bait: h5py.Empty(np.float32)
    ),
    "weights of 32 dimensions": instead(KERNEL, planned((1,) * 32)),
    "CVE-2026-0897, weights of 4 EB": instead(KERNEL, planned((10**6, 10**6, 10**6))),
    "weights of 1 TB, chunked": instead(
        KERNEL, planned((10**6, 10**5, 3), chunk=(10**3, 10**3, 3))
    ),
    "weights never written": instead(KERNEL, planned((7, 7, 3, 64))),
    "weights never written, in chunks": instead(KERNEL, planned((7, 7, 3, 64), chunk=(7, 7, 3, 1))),
    "weights in 9,408 chunks of one number": instead(
        KERNEL, planned((7, 7, 3, 64), chunk=(1, 1, 1, 1), early=True)
    ),
    "weights of 10^9 chunks of a byte": instead(
        KERNEL, planned((10**9,), h5t.STD_I8LE, chunk=(1,))
    ),
    "weights compressed": instead(
        KERNEL, stored(lambda: np.zeros((7, 7, 3, 64), np.float32), compression="gzip")
    ),
    "weights of a filter that nobody has": instead(
        KERNEL, planned((7, 7, 3, 64), chunk=(7, 7, 3, 64), filter=32_765)
    ),
    "a compressed bomb for weights": instead(
        KERNEL, stored(lambda: np.zeros((2000, 2000, 3), np.float32), compression="gzip")
    ),
    "weights cut off": lambda path, bait: end_at(path, path.stat().st_size // 2),
    "no weights": instead("model_weights", lambda *_: None),
    "a weight in the place of a layer": instead(
        "model_weights/conv1", stored(np.zeros((7, 7, 3, 64), np.float32))
    ),
    "10,000 groups in each other": on_file(nested),
    "groups that hold each other": on_file(loops),
    f"{MANY:,} names beside a weight": on_file(
        lambda file, bait: many_links(file["model_weights/conv1"])
    ),
    f"{MANY:,} names beside a weight, newer format": instead(
        "model_weights/conv1",
        lambda file, name, bait: many_links(file.create_group(name)),
        libver="latest",
    ),
    f"{MANY:,} names in the root": on_file(lambda file, bait: many_links(file)),
    "a header of 3 GB": lambda path, bait: grow_header(path, 3 * 10**9),
    "a header of 100 MB": lambda path, bait: grow_header(path, 10**8),
    "names of 100 GB": lambda path, bait: grow_names(path, 10**11),
}  # fmt: skip

# Nothing of what is hostile in these is needed: they are read as if it were not there.
HARMLESS: dict[str, Spoil] = {
    **{
        f"{name}, beside sound weights": lambda path, bait, make=make: _beside(path, make(bait))
        for name, make in LAYERS.items()
    },
    "a pickle in an attribute": on_file(
        lambda file, bait: file.attrs.update(pickle=np.void(_pickled(bait)))
    ),
    "an external link beside": on_file(
        lambda file, bait: file.update(x=h5py.ExternalLink(str(bait.folder / "pipe"), "/"))
    ),
    "a script before it": lambda path, bait: path.write_bytes(
        f"#!/bin/sh\ntouch '{bait.canary}'\nexit\n".encode().ljust(512, b"\n") + path.read_bytes()
    ),
    "a hole of 1 TB behind it": lambda path, bait: end_at(path, 1 << 40),
    "known: an external link": instead(
        "known", lambda file, name, bait: h5py.ExternalLink(str(bait.folder / "secret.h5"), "/")
    ),
    f"{MANY:,} attributes of the root": lambda path, bait: rewritten(path, many_attributes),
    f"{MANY:,} attributes of the weights": lambda path, bait: rewritten(
        path, lambda file: many_attributes(file["model_weights"])
    ),
}

# --- arrays files ---


def arrays_said(**changes) -> Spoil:
    """Return what changes the description of an arrays file."""
    return said("description", **changes)


ROWS = 4 * len(CLASSES)
X = (ROWS, SIZE, SIZE, 3)
ARRAYS: dict[str, Spoil] = {
    **OTHER_FILES,
    **KERAS_ALONE,
    **elsewhere("description", (1000,), np.uint8),
    **elsewhere("train/X", X, np.uint8),
    **elsewhere("val/source", (ROWS,), "S8"),
    **texts("description", "seed"),
    "train: an external link": instead(
        "train", lambda file, name, bait: h5py.ExternalLink(str(bait.folder / "secret.h5"), "/")
    ),
    **{f"class names {how}": arrays_said(classes=["a", "b", name]) for how, name in NAMES.items()},
    **{f"a protocol {how}": arrays_said(protocol=name) for how, name in NAMES.items()},
    "one class": arrays_said(classes=["a"]),
    "100,001 classes": arrays_said(classes=[f"{n}" for n in range(100_001)]),
    "classes that are numbers": arrays_said(classes=[1, 2, 3]),
    "a seed below 0": arrays_said(seed=-1),
    "a seed of 4,000 digits": arrays_said(seed=10**4000),
    "bits of 4,000 digits": arrays_said(near_duplicate_bits=10**4000),
    "bits below 0": arrays_said(near_duplicate_bits=-5),
    "near-duplicates that are numbers": arrays_said(near_duplicates=[1, 2]),
    "near-duplicates that are texts": arrays_said(near_duplicates=["ab"]),
    "leaks that is a text": arrays_said(leaks="no"),
    "images of 1,000,000 pixels": arrays_said(image_size=1_000_000),
    "a part of another program": arrays_said(__class__="os.system"),
    "X of 3 TB, never written": instead("train/X", planned((10**9, SIZE, SIZE, 3), h5t.STD_U8LE)),
    "X of 3 TB, in chunks": instead(
        "train/X", planned((10**9, SIZE, SIZE, 3), h5t.STD_U8LE, chunk=(1, SIZE, SIZE, 3))
    ),
    "X never written": instead("train/X", planned(X, h5t.STD_U8LE)),
    "X in chunks of one pixel": instead(
        "train/X", planned(X, h5t.STD_U8LE, chunk=(1, 1, 1, 3), early=True)
    ),
    "X of a filter that nobody has": instead(
        "train/X", planned(X, h5t.STD_U8LE, chunk=X, filter=32_765)
    ),
    "X compressed": instead("train/X", stored(np.zeros(X, np.uint8), compression="gzip")),
    "a compressed bomb for X": instead(
        "train/X", stored(lambda: np.zeros((9000, SIZE, SIZE, 3), np.uint8), compression="gzip")
    ),
    "X of 32 dimensions": instead("train/X", planned((1,) * 32, h5t.STD_U8LE)),
    "X without a shape": instead("train/X", lambda *_: h5py.Empty(np.uint8)),
    "X of NaN": instead("train/X", stored(np.full(X, np.nan, np.float32))),
    "X of texts": instead("train/X", stored(np.zeros(X, "S1"))),
    "X of compound type": instead("train/X", stored(np.zeros(X, "u1,u1"))),
    "Y of another number": instead("train/Y", stored(np.zeros((5, 3), np.uint8))),
    "sources of 1 MB each": instead("val/source", stored(np.zeros(ROWS, "S1000000"))),
    "sources of variable length": instead(
        "val/source", stored(np.array(["x"] * ROWS, h5py.string_dtype()))
    ),
    "sources of any objects": instead("val/source", planned((ROWS,), h5t.STD_REF_OBJ)),
    "copies below 0": instead("val/copy", stored(np.full(ROWS, -1, np.int16))),
    "hashes of another length": instead("val/hash", stored(np.zeros((ROWS, 2, 31), np.uint8))),
    "half of it cut off": lambda path, bait: end_at(path, path.stat().st_size // 2),
    "a root of no type": lambda path, bait: grow_header(path, 0, b"\xff"),
    f"{MANY:,} names in train, and no X": on_file(
        lambda file, bait: (many_links(file["train"]), file["train"].pop("X"))
    ),
    "a header of 3 GB": lambda path, bait: grow_header(path, 3 * 10**9),
    "names of 100 GB": lambda path, bait: grow_names(path, 10**11),
}

# Nobody can tell that these are wrong but by their content; what is said of them may be anything.
ODD: dict[str, Spoil] = {
    "labels that are none": instead("train/Y", stored(np.zeros((ROWS, 3), np.uint8))),
    "copies of copies": instead("train/copy", stored(np.full(ROWS, 65_535, np.uint16))),
    "hashes of nothing": instead("val/hash", stored(np.zeros((ROWS, 2, 32), np.uint8))),
    "sources that lead up": instead(
        "test/source", stored(np.array([b"../bait/secret.txt", b"/etc/passwd"] * (ROWS // 2)))
    ),
    "sources that command a terminal": instead(
        "test/source", stored(np.array([b"train/\x1b[2J\nx\xff", b"train/\x00x"] * (ROWS // 2)))
    ),
    "empty sources": instead("train/source", stored(np.zeros(ROWS, "S1"))),
    "no rows": on_file(lambda file, bait: [_emptied(file, split) for split in SPLITS]),
    "splits that are one": on_file(lambda file, bait: _shared(file)),
    "files left out that are numbers": arrays_said(left_out=[1, 2]),
    "a script before it": HARMLESS["a script before it"],
    f"{MANY:,} names in the root": on_file(lambda file, bait: many_links(file)),
}


def _emptied(file, split):
    for name in file[split]:
        part = file[split][name]
        shape, kind = (0, *part.shape[1:]), part.dtype
        del file[split][name]
        file[split].create_dataset(name, shape, kind)


def _shared(file):
    for split in ("val", "test"):
        del file[split]
        file[split] = file["train"]


# --- checkpoints ---


def run_said(**changes) -> Spoil:
    """Return what changes the run in a checkpoint."""
    return said("run", **changes)


CHECKPOINTS: dict[str, Spoil] = {
    **elsewhere("run", (1000,), np.uint8),
    **texts("run", "step"),
    "a run whose folder leads up": run_said(id="../bait/canary"),
    "a run elsewhere": lambda path, bait: run_said(id=str(bait.canary))(path, bait),
    "a run whose name commands a terminal": run_said(id="\x1b[2J"),
    "arguments of two lines": run_said(arguments={"recipe": "scratch", "num_epochs": "1\n2"}),
    "a recipe of two lines": run_said(arguments={"recipe": "a\nb", "num_epochs": 1}),
    "no arguments": run_said(arguments=[]),
    "a step of 4,000 digits": run_said(step=10**4000),
    "a step below 0": run_said(step=-1),
    "minutes that are a text": run_said(minutes="1"),
    "a history of 4,000 digits": run_said(history={"loss": [10**4000]}),
    "half a history": run_said(history={"val_loss": [1.0]}),
    "a leak that commands a terminal": run_said(leak="\x1b[2J"),
    "a header of 3 GB": lambda path, bait: grow_header(path, 3 * 10**9),
    "names of 100 GB": lambda path, bait: grow_names(path, 10**11),
}
SOUND = "nothing wrong"  # a file must be one that its command takes, but for what is hostile
UNCHANGED: dict[str, Spoil] = {SOUND: lambda path, bait: None}
ALL = {
    "models": MODELS | HARMLESS | UNCHANGED,
    "arrays": ARRAYS | ODD | UNCHANGED,
    "checkpoints": CHECKPOINTS | UNCHANGED,
}

# --- rows ---


@dataclass(frozen=True)
class Case:
    """A hostile file, and the command that is given it.

    Attributes:
        kind: of the file, a key of ALL.
        name: of the file, there.
        words: of the command.
        path: where the file goes, below the folder that the command runs in.
        judge: says what is wrong with how it ended.
    """

    kind: str
    name: str
    words: tuple
    path: str
    judge: Callable


def refused(ended) -> str:
    return not_refused(ended)


def refused_for_best(ended) -> str:
    """Return what is wrong with a command that should refuse the best epoch's model."""
    other = "" if "best.h5" in ended.err and "not of run" not in ended.err else ended.err
    return not_refused(ended) or other


def taken(ended) -> str:
    """Return what is wrong with a command that was given a sound file, of hashes at random."""
    well = ended.status == 0 or "overlaps between the splits" in ended.err
    return "" if well else f"status {ended.status}: {ended.err[-300:]}"


def answered(ended) -> str:
    """Return what is wrong with a command that may say what it likes, but in order."""
    if ended.status not in (0, 1, 2) or "Traceback" in ended.err:
        return f"status {ended.status}: {ended.err[-300:]}"
    return too_dear(ended, 30, 500)


def models(row: Row, folder: Path, seed: int) -> None:
    """Hostile model files for predict.py, and a share of them for whatever else reads them."""
    sound = _sound(folder)
    whole = run("predict.py", PHOTO, "--model", sound["models"], folder=folder)
    row.add("a sound model", "" if whole.status == 0 else whole.err)
    model = "models/hostile.h5"
    train = _training(sound["arrays"])
    judged = ("-m", "classifier.evaluation", sound["arrays"], "--model", model)

    def as_ever(ended):
        same = (ended.status, ended.out, ended.err) == (0, whole.out, "")
        return too_dear(ended, 5, 500) if same else f"{ended.out[-200:]} {ended.err[-200:]}"

    def each(names, words, path, kind="models", judge=refused):
        return [Case(kind, name, words, path, judge) for name in names]

    finite = {name for name in MODELS if name.endswith("1e38")}  # a training may start from them
    shares = _shares(MODELS.keys() - finite, 3, seed)
    best = "models/checkpoints/model/best.h5"
    cases = [
        *each([SOUND], (*train, "--init", model), model, judge=taken),
        *each([SOUND], (*train, "--resume"), best, judge=taken),
        *each([SOUND], judged, model, judge=taken),
        *each(MODELS, ("predict.py", PHOTO, "--model", model), model),
        *each(HARMLESS, ("predict.py", PHOTO, "--model", model), model, judge=as_ever),
        *each([*shares[0], *finite], judged, model),
        *each(shares[1], (*train, "--init", model), model),
        *each(shares[2], (*train, "--resume"), best, judge=refused_for_best),
        *each(CHECKPOINTS, (*train, "--resume"), "models/checkpoints/model/latest.h5",
              "checkpoints"),
    ]  # fmt: skip
    _try_all(row, folder, sound, cases)


def arrays(row: Row, folder: Path, seed: int) -> None:
    """Hostile arrays files for each command that reads them."""
    sound = _sound(folder)
    path = "datasets/hostile.h5"
    commands = [
        ("prepro.py", "--audit", "--output", path, "--workers", 2),
        ("-m", "classifier.evaluation", path, "--model", sound["models"]),
        ("-m", "classifier.data.arrays", path),
        ("-m", "classifier.data.arrays", path, "--held-out"),
        _training(path),
    ]
    cases = [Case("arrays", name, commands[2], path, refused) for name in ARRAYS]
    for words, share in zip(commands, _shares(ARRAYS, len(commands), seed), strict=True):
        cases += [Case("arrays", name, words, path, refused) for name in share]
    for words in commands[:4]:
        cases += [Case("arrays", name, words, path, answered) for name in ODD]
    cases += [Case("arrays", SOUND, words, path, taken) for words in commands[:3]]
    _try_all(row, folder, sound, cases)


def _training(arrays):
    return ("train.py", "--data", arrays, "--model", "models/model.h5", "--batch-size", 2,
            "--num-epochs", 1)  # fmt: skip


def _shares(names, count, seed):
    """Return the names in as many shares, another one each for another seed."""
    order = np.random.default_rng(seed).permutation(sorted(names)).tolist()
    return [order[start::count] for start in range(count)]


def _sound(folder):
    """Write the sound files, in a process of its own; return their paths by kind."""
    paths = {kind: folder / f"sound-{kind}.h5" for kind in ALL}
    made = run("benchmarks/faulty/hostile.py", *paths.values(), folder=folder)
    if made.status:
        raise RuntimeError(made.err)
    return paths


def _try_all(row, folder, sound, cases):
    with ProcessPoolExecutor(2, get_context("spawn")) as writers, ThreadPoolExecutor(2) as pool:
        jobs = enumerate(cases)
        for case, problem, ended in pool.map(lambda job: _try(folder, sound, writers, *job), jobs):
            row.add(f"{case.name}: {' '.join(map(str, case.words[:2]))}", problem, ended)


def _try(folder, sound, writers, number, case):
    """Have a hostile file written, and the command run on it; return what is wrong."""
    place = folder / f"{number:04}"
    path, bait = place / case.path, Bait(place / "bait")
    path.parent.mkdir(parents=True)
    written = writers.submit(write, case.kind, case.name, path, bait.folder, sound[case.kind])
    if error := written.exception(300):
        return case, f"not written: {error!r}", None
    if path.name == "best.h5":
        shutil.copy(sound["checkpoints"], path.with_name("latest.h5"))
    before = _listing(place)
    ended = run(*case.words, folder=place, limit=60)
    problem = bait.taken(ended.out + ended.err) or case.judge(ended)
    if not problem and case.judge not in (answered, taken) and _listing(place) != before:
        problem = f"files changed: {set(_listing(place)) ^ set(before)}"
    shutil.rmtree(place)
    return case, problem, ended


def _listing(folder):
    """Return what stands in a folder, {path: (size, time)}, but for the folders of logs."""
    return {
        str(path): (path.lstat().st_size, path.lstat().st_mtime_ns)
        for path in folder.rglob("*")
        if not path.is_dir() and "logs" not in path.relative_to(folder).parts
    }


def write(kind: str, name: str, path: Path, folder: Path, sound: Path) -> None:
    """Write the hostile file of a kind and name to `path`, its bait in `folder`."""
    bait = Bait(folder)
    bait.lay()
    shutil.copy(sound, path)
    ALL[kind][name](path, bait)


def main() -> None:
    """Write the sound files of three kinds."""
    model, pictures, checkpoint = map(Path, sys.argv[1:])
    sound_model(model, CLASSES)
    sound_arrays(pictures, CLASSES)
    sound_run(checkpoint, pictures, [str(word) for word in _training(pictures)[1:]])


if __name__ == "__main__":
    main()
