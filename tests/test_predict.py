"""predict.py without a network: what it reads, what it skips, and what it says."""

import errno
import io
import json
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from conftest import run
from PIL import Image

import predict
from classifier import cli
from classifier.errors import UserError
from classifier.prediction import model_file

INFO = model_file.ModelInfo(["dark", "bright"], 32, "clean")


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """A model of two classes that tells dark from bright, and needs no backend."""

    def probabilities(_model, images, _mirror):
        bright = images.mean(axis=(1, 2, 3)) / 255
        return np.stack([1 - bright, bright], axis=1)

    monkeypatch.setattr(model_file, "load_info", lambda path: INFO)
    monkeypatch.setattr(model_file, "load", lambda path: (None, INFO))
    monkeypatch.setattr(model_file, "probabilities", probabilities)
    monkeypatch.setattr(cli, "start_keras", lambda: None)


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
        "file,rank,label,probability",
        "a.png,1,bright,0.800000", "a.png,2,dark,0.200000",
        "b.png,1,dark,0.800000", "b.png,2,bright,0.200000",
    ]  # fmt: skip


def test_json_and_csv_exclude_each_other(call, capsys):
    with pytest.raises(SystemExit):
        call("--csv", "a.png")
    assert "not allowed with argument --json" in capsys.readouterr().err


def test_the_models_enlarging_and_mirror_images_count(call, monkeypatch):
    asked = []
    info = model_file.ModelInfo(["dark", "bright"], 32, "clean", enlarge_to=1024, mirror=True)

    def probabilities(_model, images, mirror):
        asked.append((len(images), mirror))
        return np.ones((len(images), 2))

    monkeypatch.setattr(model_file, "load_info", lambda path: info)
    monkeypatch.setattr(model_file, "probabilities", probabilities)
    for name in "abcd":
        photo(f"{name}.png")
    call("a.png", "b.png", "c.png", "d.png")
    assert asked == [(3, True), (1, True)]  # of 1,024 pixels 3 at a time


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

    monkeypatch.setattr(predict, "images_a_step", lambda _: 2)
    for name in "abcd":
        photo(f"{name}.png")
    stream, read = Stream(), predict.read_image

    def killed(name, size):
        if name == "c.png":
            raise KeyboardInterrupt
        return read(name, size)

    monkeypatch.setattr(predict, "read_image", killed)
    monkeypatch.setattr(sys, "stdout", stream)
    with pytest.raises(KeyboardInterrupt):
        call("a.png", "b.png", "c.png", "d.png")
    assert [json.loads(line)["file"] for line in stream.out.splitlines()] == ["a.png", "b.png"]


def test_help_names_standard_input(tmp_path):
    result = run("predict.py", "--help", cwd=tmp_path)
    assert result.returncode == 0
    assert "- reads one image from standard input" in " ".join(result.stdout.split())
