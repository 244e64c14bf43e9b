"""predict.py without a network: what it reads, what it skips, and what it says."""

import errno
import io
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import types
import warnings
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, run
from PIL import Image

import predict
from classifier import cli
from classifier.errors import UserError
from classifier.evaluation import explain
from classifier.prediction import forward, model_file, runtime
from classifier.prediction.verdict import Known

INFO = model_file.ModelInfo(["dark", "bright"], 32, "clean")


def bright(images):
    """Tell dark from bright: the probabilities of INFO's classes."""
    mean = images.mean(axis=(1, 2, 3)) / 255
    return np.stack([1 - mean, mean], axis=1)


def use(monkeypatch, network, info=INFO):
    """Make predict.py's network a function from images to probabilities.

    Its features are their logarithms, and its head leaves them as they are; its last maps have one
    place.
    """

    def features(images):
        return np.log(np.maximum(network(images), 1e-30))

    features.feature_maps = lambda images: features(images)[:, None, None]
    count = len(info.classes)
    head = {"kernel": np.eye(count), "bias": np.zeros(count)}
    monkeypatch.setattr(model_file, "load_weights", lambda path: ({f"fc{count}": head}, info))
    monkeypatch.setattr(forward, "Network", lambda *_: features)


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    use(monkeypatch, bright)


@pytest.fixture
def call(monkeypatch, capsys, tmp_path):
    """Call predict.main with arguments, in a folder of its own: (files named, text on stderr)."""
    monkeypatch.chdir(tmp_path)

    def main(*args):
        monkeypatch.setattr(sys, "argv", ["predict.py", "--json", *map(str, args)])
        assert predict.main() == 0
        shown = capsys.readouterr()
        return [json.loads(line)["file"] for line in shown.out.splitlines()], shown.err

    return main


def photo(path):
    Image.new("RGB", (8, 8), (250, 250, 250)).save(path, "PNG")
    return Path(path).read_bytes()


def feed(monkeypatch, data):
    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=io.BytesIO(data)))


def deny(monkeypatch, name):
    """Make the file `name` one that may not be read (the tests may run as root)."""
    opened = Path.open

    def fail(path, *args, **options):
        if path.name == name:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opened(path, *args, **options)

    monkeypatch.setattr(Path, "open", fail)


def test_an_unreadable_file_among_many_is_skipped_with_a_line(call, monkeypatch):
    for name in ("a.png", "b.png", "c.png"):
        photo(name)
    deny(monkeypatch, "b.png")
    files, text = call("a.png", "b.png", "c.png")
    assert files == ["a.png", "c.png"]
    assert text.splitlines() == [
        "skipped: b.png: Permission denied; make it readable",
        "skipped 1 of 3 files, which cannot be read as images",
    ]


def test_an_unreadable_file_alone_or_with_strict_is_an_error(call, monkeypatch):
    photo("a.png")
    photo("b.png")
    deny(monkeypatch, "b.png")
    for args in (["b.png"], ["--strict", "a.png", "b.png"]):
        with pytest.raises(UserError, match="^b.png: Permission denied; make it readable$"):
            call(*args)


def test_a_file_in_an_unreadable_folder_is_skipped_with_a_line(call, monkeypatch):
    photo("a.png")
    stat = Path.stat

    def fail(path, **options):
        if path.parts[0] == "closed":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return stat(path, **options)

    monkeypatch.setattr(Path, "stat", fail)
    files, text = call("closed/b.png", "a.png")
    assert files == ["a.png"]
    assert "skipped: closed/b.png: Permission denied" in text


def test_want_of_memory_is_not_taken_for_a_bad_file(call, monkeypatch):
    photo("a.png")
    photo("b.png")

    def fail(*_):
        raise MemoryError

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", fail)
    with pytest.raises(MemoryError, match="a.png: not enough memory"):
        call("a.png", "b.png")


def test_an_error_line_is_one_line_whatever_the_name(call):
    Path("two\nlines.png").write_text("no image")
    photo("a.png")
    _, text = call("two\nlines.png", "a.png")
    assert len(text.splitlines()) == 2
    assert "'two\\nlines.png': not an image" in text


def test_standard_input(call, monkeypatch):
    feed(monkeypatch, photo("a.png"))
    assert call("-") == (["-"], "")


def test_standard_input_is_read_where_ctrl_c_is_heard(call, monkeypatch):
    threads = []

    def read(_size):
        threads.append(threading.current_thread())
        return photo("a.png")

    monkeypatch.setattr(
        sys, "stdin", types.SimpleNamespace(buffer=types.SimpleNamespace(read=read))
    )
    photo("a.png")
    assert call("a.png", "-", *["a.png"] * 100)[0][:2] == ["a.png", "-"]
    assert threads == [threading.main_thread()]


def test_standard_input_is_bounded(call, monkeypatch):
    monkeypatch.setattr(predict, "MAX_BYTES", 1000)
    endless = types.SimpleNamespace(taken=0)

    def read(size=-1):
        assert 0 <= size <= 1001, "reads without bound"
        endless.taken += size
        return b"x" * size

    monkeypatch.setattr(
        sys, "stdin", types.SimpleNamespace(buffer=types.SimpleNamespace(read=read))
    )
    with pytest.raises(UserError, match="^standard input: more than 1,000 bytes; give a JPEG"):
        call("-")
    assert endless.taken <= 1001


def test_empty_standard_input_is_named(call, monkeypatch):
    feed(monkeypatch, b"")
    with pytest.raises(UserError, match="^standard input: it is empty; give a JPEG"):
        call("-")
    monkeypatch.setattr(sys, "stdin", None)  # closed: predict.py - <&-
    with pytest.raises(UserError, match="^standard input: it is empty; give a JPEG"):
        call("-")


def test_files_none_of_which_is_an_image_are_an_error(call):
    for name in ("a.png", "b.png"):
        Path(name).write_text("no image")
    with pytest.raises(UserError, match="^none of the 2 files can be read as an image"):
        call("a.png", "b.png")


def test_a_glob_names_files_in_order_and_at_any_depth(call):
    for name in ("c.png", "a.png", "deep/er/b.png", "folder.png/d.png"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        photo(name)
    assert call("*.png")[0] == ["a.png", "c.png"]
    assert sorted(call("**/*.png")[0]) == ["a.png", "c.png", "deep/er/b.png", "folder.png/d.png"]
    with pytest.raises(UserError, match=r"^deep/\*: no such image"):
        call("deep/*")


def printed(monkeypatch, capsys, *args):
    monkeypatch.setattr(sys, "argv", ["predict.py", *args])
    assert predict.main() == 0
    return capsys.readouterr().out.splitlines()


def test_text_and_csv_show_the_best_first_with_its_rank(call, monkeypatch, capsys):
    for name, value in (("a.png", 204), ("b.png", 51)):  # 0.8 and 0.2 bright
        Image.new("RGB", (8, 8), (value,) * 3).save(name)
    assert printed(monkeypatch, capsys, "a.png", "b.png") == [
        "a.png", "   80.00%  bright", "   20.00%  dark",
        "b.png", "   80.00%  dark", "   20.00%  bright",
    ]  # fmt: skip
    assert printed(monkeypatch, capsys, "--top", "1", "b.png") == ["b.png", "   80.00%  dark"]
    assert printed(monkeypatch, capsys, "--csv", "a.png", "b.png") == [
        "file,rank,label,probability,unknown",
        "a.png,1,bright,0.800000,", "a.png,2,dark,0.200000,",
        "b.png,1,dark,0.800000,", "b.png,2,bright,0.200000,",
    ]  # fmt: skip


def test_none_of_these_is_said_in_every_form_unless_it_is_not_to_be(call, monkeypatch, capsys):
    known = Known(
        centre=np.zeros(2), projection=np.zeros((2, 1)), means=np.zeros((2, 1)),
        spread=np.zeros(1), ceiling=0.0, energy=(0.0, 1.0), distance=(0.0, 1.0),
        threshold=np.log(0.9),
    )  # fmt: skip

    def dim(images):  # what is lost of the two classes' probabilities is the energy's loss
        return bright(images) * np.where(images.max(axis=(1, 2, 3)) < 60, 0.5, 1.0)[:, None]

    info = model_file.ModelInfo(["dark", "bright"], 32, "clean", temperature=2.0, known=known)
    use(monkeypatch, dim, info)
    for name, value in (("a.png", 204), ("b.png", 51)):
        Image.new("RGB", (8, 8), (value,) * 3).save(name)
    # sqrt(0.8) : sqrt(0.2) is 2 : 1
    assert printed(monkeypatch, capsys, "a.png", "b.png") == [
        "a.png", "   66.67%  bright", "   33.33%  dark", "b.png", "  none of these (closest: dark)",
    ]  # fmt: skip
    assert printed(monkeypatch, capsys, "--csv", "--top", "1", "a.png", "b.png")[1:] == [
        "a.png,1,bright,0.666667,false", "b.png,1,dark,0.666667,true",
    ]  # fmt: skip
    rows = [json.loads(line) for line in printed(monkeypatch, capsys, "--json", "a.png", "b.png")]
    assert [row["unknown"] for row in rows] == [False, True]
    assert rows[1]["predictions"][0] == {
        "label": "dark", "probability": 0.666667, "logit": pytest.approx(np.log(0.4), abs=1e-4),
    }  # fmt: skip
    assert printed(monkeypatch, capsys, "--always", "b.png")[1] == "   66.67%  dark"
    always = json.loads(printed(monkeypatch, capsys, "--always", "--json", "b.png")[0])
    assert always == {**rows[1], "unknown": None}


def pngs(folder):
    """The pictures below a folder, each of which must be whole, and nothing else."""
    found = sorted(path for path in Path(folder).rglob("*") if not path.is_dir())
    for path in found:
        with Image.open(path) as image:
            assert image.format == "PNG"
            image.load()
    return [str(path) for path in found]


def left_panel(path):
    """The colour of the photograph in a picture, and how red its heat map is left and right."""
    with Image.open(path) as drawn:
        pixels = np.asarray(drawn).astype(int)
    top, width = explain.GAP + explain.CAPTION, 360
    row = top + 100
    first, second = explain.GAP, 2 * explain.GAP + width
    heat = pixels[row, second : second + width]
    redness = heat[:, 0] - heat[:, 2]
    return tuple(pixels[row, first + 20]), redness[:40].max(), redness[-40:].max()


def test_an_explanation_shows_where_the_likeliest_class_is_seen(call, monkeypatch, capsys):
    """In a network of 2x2 places the left ones speak for bright, the right ones for dark."""

    def network(images):
        bright = images[:, 0, 0, 0] > 100
        maps = np.zeros((len(images), 2, 2, 2))
        maps[:, :, 0, 1] = np.where(bright, 6, 2)
        maps[:, :, 1, 0] = 4
        return maps

    info = model_file.ModelInfo(["dark", "bright"], 64, "clean")
    use(monkeypatch, lambda images: np.exp(network(images).mean(axis=(1, 2))), info)
    monkeypatch.setattr(forward, "Network", lambda *_: types.SimpleNamespace(feature_maps=network))
    for value, said in ((250, "bright"), (5, "dark")):
        Image.new("RGB", (60, 60), (value,) * 3).save("a.png")
        text = printed(monkeypatch, capsys, "--explain", "new/why.PNG", "a.png")
        assert text[1].split()[1] == said
        assert pngs("new") == ["new/why.PNG"]
        colour, left, right = left_panel("new/why.PNG")
        assert colour == (value,) * 3
        assert (left > 100, right > 100) == (said == "bright", said == "dark")


def test_pictures_lie_in_a_folder_as_the_files_do(call, monkeypatch):
    monkeypatch.setattr(predict, "cores", lambda: 4)
    names = [f"in/{part}/{n}.png" for part in ("a", "b", "b/deep") for n in range(5)]
    for value, name in enumerate(names):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (10 * value,) * 3).save(name)
    Path("in/b/text.png").write_text("no image")
    again = ["in/b/../a/1.png", "in/a/1.png"]
    for _ in range(2):  # an earlier picture is replaced
        files, text = call("--explain", "out", "in", *again)
        assert files == [*names, *again]
        assert "skipped 1 of 18 files" in text
        assert pngs("out") == [name.replace("in", "out", 1) + ".png" for name in names]
    for value, name in enumerate(names):
        assert left_panel(name.replace("in", "out", 1) + ".png")[0] == (10 * value,) * 3
    feed(monkeypatch, Path("in/a/1.png").read_bytes())
    call("--explain", "one", "-")
    assert pngs("one") == ["one/stdin.png"]
    Path("folder.png").mkdir()
    call("--explain", "folder.png", "in/b/1.png")
    assert pngs("folder.png") == ["folder.png/1.png.png"]


def test_a_picture_never_takes_the_place_of_another_file(call):
    data = photo("a.png")
    photo("b.png")
    shutil.copy("a.png", "a.png.png")
    Path("dir.png/b.png.png").mkdir(parents=True)
    for words in (("a.png", "b.png"), ("./", "a.png"), ("dir.png", "b.png")):
        with pytest.raises(UserError, match=r"^--explain .*: something else is there; give anoth"):
            call("--explain", *words)
    assert Path("a.png").read_bytes() == Path("a.png.png").read_bytes() == data
    Path("two\nlines.png").mkdir()
    photo("two\nlines.png/b.png.png")
    with pytest.raises(UserError, match=r"^--explain 'two\\nlines.png/b.png.png': something else"):
        call("--explain", "two\nlines.png", "b.png")
    with pytest.raises(UserError, match=r"^--explain why.png: there are 2 images; give a folder$"):
        call("--explain", "why.png", "a.png", "a.png.png")
    with pytest.raises(UserError, match=r"^a.png/x: cannot create this folder"):
        call("--explain", "a.png/x", "a.png.png")
    assert not Path("why.png").exists()


def test_two_images_of_one_place_and_names_too_long_are_refused(call):
    for name in ("in/a/1.png", "else/x/1.png", "else/a/1.png", "p" * 250):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        photo(name)
    Path("in/b").symlink_to("../else/x")
    with pytest.raises(UserError, match=r"^--explain out/1.png.png: is the place of two"):
        call("--explain", "out", "in/b/../a/1.png", "in/a/1.png")  # the first is else/a/1.png
    with pytest.raises(UserError, match=r"^--explain out/p+\.png: too long a name; rename p"):
        call("--explain", "out", "p" * 250)
    assert pngs("out") == []
    photo("q.png")
    Path("q/sub").mkdir(parents=True)
    photo("q/sub/r.png")
    Path("taken").mkdir()
    Path("taken/q").touch()
    with pytest.raises(UserError, match=r"^taken/q/sub: cannot create this folder"):
        call("--explain", "taken", "q.png", "q/sub/r.png")
    assert [path.name for path in Path("taken").iterdir()] == ["q"]  # refused before any is drawn


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--explain", "why.JPG"], "'why.JPG': give a name that ends in .png, or a folder"),
        (["--explain", ""], ": give a name that ends in .png"),
        (["--explain", "p" * 250], "too long a name; give a shorter one"),
        (["--explain", "-"], ": give a name that ends in .png"),
        (["--explain", "why", "--runtime", "keras"], "NumPy computes it"),
        (["--explain", "why", "--precision", "bfloat16"], "NumPy computes it"),
    ],
)
def test_what_cannot_be_explained_is_one_line(call, capsys, words, said):
    with pytest.raises(SystemExit):
        call(*words, "a.png")
    text = capsys.readouterr().err
    assert text.startswith("predict.py: error: argument --explain: ")
    assert said in text
    assert len(text.splitlines()) == 1


def test_a_full_disk_leaves_no_half_picture(call, monkeypatch):
    def full(_image, file, *_, **__):
        Path(file).write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    photo("a.png")
    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(OSError, match="No space left on device: 'out/a.png.png'"):
        call("--explain", "out", "a.png")
    assert list(Path("out").iterdir()) == []


def test_no_picture_is_drawn_of_no_numbers(call, monkeypatch):
    photo("a.png")
    use(monkeypatch, lambda images: np.full((len(images), 2), np.nan))
    with pytest.raises(UserError, match=r"gives no probabilities; train it again$"):
        call("--explain", "why.png", "a.png")
    assert not Path("why.png").exists()


def test_json_and_csv_exclude_each_other(call, capsys):
    with pytest.raises(SystemExit):
        call("--csv", "a.png")
    assert "not allowed with argument --json" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("enlarge_to", "sizes"), [(0, [20, 20]), (64, [16, 16, 8]), (1024, [1] * 40)]
)
def test_a_thread_takes_the_fewer_images_the_larger_they_become(
    call, monkeypatch, enlarge_to, sizes
):
    monkeypatch.setattr(predict, "cores", lambda: 2)
    info = model_file.ModelInfo(["dark", "bright"], 32, "clean", enlarge_to=enlarge_to)
    taken = []

    def network(images):
        taken.append(len(images))
        return bright(images)

    use(monkeypatch, network, info)
    photo("a.png")
    assert call("--runtime", "numpy", *["a.png"] * 40)[0] == ["a.png"] * 40
    assert sorted(taken, reverse=True) == sizes


def test_mirror_images_count_where_the_model_says_so(call, monkeypatch, capsys):
    def network(images):  # how bright the left half is
        return bright(images[:, :, :16])

    half = Image.new("L", (32, 32))
    half.paste(255, (0, 0, 16, 32))
    half.save("half.png")
    for mirror, share in ((False, "100.00%"), (True, "50.00%")):
        info = model_file.ModelInfo(["dark", "bright"], 32, "clean", mirror=mirror)
        use(monkeypatch, network, info)
        rows = printed(monkeypatch, capsys, "half.png")
        assert dict(row.split()[::-1] for row in rows[1:])["bright"] == share


def test_names_that_start_with_a_dash_stand_behind_two_dashes(call, monkeypatch):
    for name in ("-a.png", "--json", "--", "a.png"):
        photo(name)
    feed(monkeypatch, photo("a.png"))
    assert call("--", "-a.png", "--json", "a.png") == (["-a.png", "--json", "a.png"], "")
    assert call("--", "-")[0] == ["-"]


def test_results_of_a_batch_are_out_before_the_next_one_starts(call, monkeypatch):
    class Stream(io.StringIO):
        out = ""

        def flush(self):
            self.out = self.getvalue()

    monkeypatch.setattr(runtime, "PIXELS_A_THREAD", 2 * 32 * 32)
    for name in "abcd":
        photo(f"{name}.png")
    stream, read = Stream(), predict.read_image

    def killed(name):
        if name == "c.png":
            raise KeyboardInterrupt
        return read(name)

    monkeypatch.setattr(predict, "read_image", killed)
    monkeypatch.setattr(sys, "stdout", stream)
    with pytest.raises(KeyboardInterrupt):
        call("a.png", "b.png", "c.png", "d.png")
    assert [json.loads(line)["file"] for line in stream.out.splitlines()] == ["a.png", "b.png"]


def test_results_stand_in_the_files_order_whichever_thread_is_first(call, monkeypatch):
    monkeypatch.setattr(runtime, "PIXELS_A_THREAD", 32 * 32)
    monkeypatch.setattr(predict, "cores", lambda: 4)
    names = [f"{number}.png" for number in range(30)]
    for name in names:
        photo(name)
    together, read = threading.Barrier(4, timeout=10), predict.read_image

    def slow(name):
        if name in names[:4]:
            together.wait()  # four threads
        if name in ("0.png", "7.png"):
            time.sleep(0.02)
        return read(name)

    monkeypatch.setattr(predict, "read_image", slow)
    assert call(*names)[0] == names


def test_a_warning_of_a_decoder_is_not_shown_from_threads_either(call, monkeypatch):
    monkeypatch.setattr(runtime, "PIXELS_A_THREAD", 32 * 32)
    monkeypatch.setattr(predict, "cores", lambda: 4)
    decode = predict.read_rgb

    def warn(*args):
        time.sleep(0.001)
        warnings.warn("odd metadata", stacklevel=2)
        return decode(*args)

    monkeypatch.setattr(predict, "read_rgb", warn)
    photo("a.png")
    assert call(*["a.png"] * 100) == (["a.png"] * 100, "")  # warnings are errors in the tests


def test_a_network_of_no_probabilities_is_an_error(call, monkeypatch):
    use(monkeypatch, lambda images: np.full((len(images), 2), np.nan))
    photo("a.png")
    with pytest.raises(UserError, match="resnet50.h5: gives no probabilities; train it again"):
        call("a.png")


def test_of_equal_classes_the_first_is_named_first(call, monkeypatch, capsys):
    names = [f"{number:02}" for number in range(60)]
    info = model_file.ModelInfo(names, 32, "clean")
    use(monkeypatch, lambda images: np.full((len(images), 60), 1 / 60), info)
    photo("a.png")
    rows = printed(monkeypatch, capsys, "--top", "60", "a.png")
    assert [row.split()[1] for row in rows[1:]] == names


ENVIRONMENT = """
import os, sys

class AsNumpyIsImported:
    def find_spec(self, name, *_):
        if name == "numpy":
            print(os.environ.get("OPENBLAS_NUM_THREADS"))

sys.meta_path.insert(0, AsNumpyIsImported())
import predict
"""


@pytest.mark.parametrize(("given", "expected"), [({}, "1"), ({"OPENBLAS_NUM_THREADS": "3"}, "3")])
def test_a_product_takes_one_thread_unless_the_user_says_otherwise(given, expected):
    environment = {k: v for k, v in os.environ.items() if k != "OPENBLAS_NUM_THREADS"}
    command = [sys.executable, "-c", ENVIRONMENT]
    told = subprocess.check_output(command, cwd=ROOT, text=True, env=environment | given)
    assert told == f"{expected}\n"


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_shows_how_far_long_work_is_and_nothing_of_it_remains(call, monkeypatch):
    monkeypatch.setattr(runtime, "PIXELS_A_THREAD", 32 * 32)
    monkeypatch.setattr(cli.Counter, "EVERY", 0)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    photo("a.png")
    Path("b.png").write_text("no image")
    call("a.png", "a.png", "b.png", "a.png")
    clear = "\r\033[K"
    drawn = terminal.getvalue().split(clear)
    assert [re.sub(r"[\d.]+ a second, \d+ s left", "RATE", text) for text in drawn if text] == [
        "2 of 4 images, RATE",
        "skipped: b.png: not an image; give a JPEG, PNG, GIF, BMP, TIFF or WebP image\n",
        "3 of 4 images, RATE",
        "4 of 4 images, RATE",
        "skipped 1 of 4 files, which cannot be read as images\n",
    ]
    monkeypatch.setattr(cli.Counter, "EVERY", 60)  # work that is soon done
    terminal.truncate(0)
    call("a.png", "a.png")
    assert terminal.getvalue() == ""


def test_keras_is_asked_where_it_is_quicker(call, monkeypatch):
    asked = []

    def with_keras(weights, info, files, precision):
        asked.append(precision)
        yield [(name, np.array([0.5, 0.5])) for name in files]

    monkeypatch.setattr(predict, "with_keras", with_keras)
    photo("a.png")
    call("a.png")
    assert asked == []
    call("--precision", "bfloat16", "a.png")
    assert asked == []  # one image alone is sooner done by NumPy
    call("--runtime", "keras", "--precision", "bfloat16", "a.png")
    call("--runtime", "keras", "a.png")
    assert asked == ["bfloat16", "float32"]
    monkeypatch.setattr(predict, "quicker", lambda info, count, flags: "keras" if count > 2 else "")
    call("a.png", "a.png", "a.png")
    call("a.png", "a.png", "a.png", "--precision", "bfloat16")
    assert asked[2:] == ["float32", "bfloat16"]
    call("--runtime", "numpy", "a.png", "a.png", "a.png")
    assert len(asked) == 4


def test_numpy_has_no_bfloat16(call, capsys):
    with pytest.raises(SystemExit):
        call("--runtime", "numpy", "--precision", "bfloat16", "a.png")
    assert "--precision: NumPy has no bfloat16; use --runtime keras" in capsys.readouterr().err


def test_help_names_standard_input(tmp_path):
    result = run("predict.py", "--help", cwd=tmp_path)
    assert result.returncode == 0
    assert "- reads one image from standard input" in " ".join(result.stdout.split())
