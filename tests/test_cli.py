import argparse
import contextlib
import errno
import io
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT, assert_one_line_error, run

from classifier import cli
from classifier.errors import UserError


@pytest.mark.parametrize("script", ["prepro.py", "train.py", "predict.py"])
def test_help_shows_every_default_and_starts_no_keras(script, tmp_path):
    result = run(script, "--help", cwd=tmp_path, env={"KERAS_BACKEND": "none such", "PATH": ""})
    assert result.returncode == 0
    assert "default:" in result.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("script", ["prepro.py", "train.py"])
def test_unknown_flag_is_one_line(script, tmp_path):
    assert_one_line_error(run(script, "--no-such-flag", cwd=tmp_path), "--no-such-flag", "--help")


def test_numbers_are_checked():
    assert cli.real(0, 2)("0") == 0
    whole, number = cli.integer(1, 5), cli.real(0, 2, low_open=True)
    assert [whole("1"), whole("5"), number("2"), number("1e-9")] == [1, 5, 2.0, 1e-9]
    for check, texts in ((whole, ("0", "6", "x", "1.0")), (number, ("0", "2.1", "nan", "inf", ""))):
        for text in texts:
            with pytest.raises(argparse.ArgumentTypeError):
                check(text)


def test_a_command_to_copy_is_quoted_for_the_shell():
    command = cli.shown("train.py", "--data", "my photos/it's.h5", 7)
    assert shlex.split(command) == ["python", "train.py", "--data", "my photos/it's.h5", "7"]


def test_help_shows_a_default_of_0_and_none_where_there_is_none(capsys):
    parser = cli.Parser(prog="script")
    parser.add_argument("--zero", default=0, help="number")
    parser.add_argument("--nothing", help="optional")
    parser.add_argument("--switch", action="store_true", help="flag")
    lines = parser.format_help().splitlines()
    assert any(line.endswith("number (default: 0)") for line in lines)
    assert sum("default" in line for line in lines) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_that_was_swallowed_is_raised_again(monkeypatch, number):
    monkeypatch.setattr(cli, "_interrupted", False)
    before = [(n, signal.getsignal(n)) for n in (signal.SIGINT, signal.SIGTERM)]
    signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever runs the tests ignores
    cli.interrupt_on_sigterm()
    try:
        cli.raise_if_interrupted()
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(number)
        with pytest.raises(KeyboardInterrupt):
            cli.raise_if_interrupted()
    finally:
        for known, handler in before:
            signal.signal(known, handler)


def test_the_first_signal_waits_for_the_block_and_the_second_does_not(monkeypatch, capfd):
    monkeypatch.setattr(cli, "_interrupted", False)
    before = [(n, signal.getsignal(n)) for n in (signal.SIGINT, signal.SIGTERM)]
    cli.interrupt_on_sigterm()
    try:
        with cli.interrupts_wait():
            signal.raise_signal(signal.SIGTERM)
            assert cli.interrupted()
            assert "a second signal stops at once" in capfd.readouterr().err
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGTERM)
            cli._interrupted = False
        with pytest.raises(KeyboardInterrupt), cli.interrupts_wait():
            signal.raise_signal(signal.SIGTERM)  # which the block does not look at
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
    finally:
        for known, handler in before:
            signal.signal(known, handler)


def test_a_ctrl_c_that_is_not_to_be_heard_stays_unheard():
    before = [(n, signal.getsignal(n)) for n in (signal.SIGINT, signal.SIGTERM)]
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell does for what runs behind it
    try:
        cli.interrupt_on_sigterm()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        for known, handler in before:
            signal.signal(known, handler)


KERAS = """
import os, types
os.write(2, b"a note of the backend")
{}
backend = types.SimpleNamespace(backend=lambda: "torch")
"""


@pytest.mark.parametrize("then", ["", "raise ImportError('no such backend')"])
def test_the_notes_of_the_backend_are_shown_only_where_its_import_fails(then, tmp_path):
    (tmp_path / "keras.py").write_text(KERAS.format(then))
    script = [sys.executable, "-c", "from classifier.backend import start_keras; start_keras()"]
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    result = subprocess.run(script, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert (result.returncode != 0) == ("a note" in result.stderr) == bool(then)


SCRIPT = """
import sys
from classifier import cli
from classifier.errors import UserError

def main():
    for number in range(100_000):
        print("line", number)
    sys.stdout.flush()
    open("product", "x").write("whole")
    return 0

cli.run(main, product={product!r})
"""


@pytest.mark.parametrize(("product", "status"), [("file", 0), ("output", 141)])
def test_a_reader_that_ends_early_costs_no_product_and_is_no_success_of_printing(
    product, status, tmp_path
):
    (tmp_path / "script.py").write_text(SCRIPT.format(product=product))
    with subprocess.Popen(
        [sys.executable, "script.py"], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout.readline() == "line 0\n"
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == status
    assert (tmp_path / "product").exists() == (product == "file")


@pytest.mark.parametrize("product", ["file", "output"])
@pytest.mark.parametrize(("words", "unbuffered"), [("", ""), ("", "1"), ("--help", "")])
def test_a_full_disk_for_what_is_printed_is_one_line(product, words, unbuffered, tmp_path):
    (tmp_path / "script.py").write_text(
        "from classifier import cli\n"
        "def main():\n"
        "    cli.Parser(prog='x').parse_args()\n"
        "    print('figures')\n"
        "    return 0\n"
        f"cli.run(main, {product!r})\n"
    )
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [sys.executable, "script.py", *words.split()], cwd=tmp_path, stdout=full, text=True,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": unbuffered},
        )  # fmt: skip
    (line,) = ended.stderr.splitlines()
    assert "standard output: No space left on device; free some disk space" in line
    assert ended.returncode == 2


def test_an_error_is_one_line_though_nothing_can_be_printed(tmp_path):
    (tmp_path / "script.py").write_text(
        "from classifier import cli, errors\n"
        "def main():\n"
        "    print('figures')\n"
        "    raise errors.UserError('a.h5: broken')\n"
        "cli.run(main)\n"
    )
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [sys.executable, "script.py"], cwd=tmp_path, stdout=full, text=True,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": ""},
        )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (2, "script.py: error: a.h5: broken\n")


def test_with_every_stream_closed_the_product_is_whole(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT.format(product="file"))
    command = f"{sys.executable} script.py <&- >&- 2>&-"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert subprocess.run(["sh", "-c", command], cwd=tmp_path, env=env).returncode == 0
    assert (tmp_path / "product").read_text() == "whole"


@pytest.mark.parametrize(
    ("error", "parts"),
    [
        (UserError("a.h5: broken; make it again"), ["a.h5: broken"]),
        (MemoryError(), ["out of memory", "--batch-size"]),
        (OSError(28, "No space left on device", "a.h5"), ["a.h5: No space", "disk space"]),
        (
            OSError(errno.EDQUOT, "Disk quota exceeded", "a.h5"),
            ["a.h5: Disk quota", "free some disk space"],
        ),
        (OSError("write failed: time = now,\nerrno = 28, more"), ["error: No space", "disk space"]),
        (OSError(5, "Input/output error", "a.h5"), ["a.h5: Input/output", "try again"]),
        (PermissionError(13, "Permission denied", "a.h5"), ["a.h5: Permission denied", "choose"]),
        (OSError(30, "Read-only file system", "a.h5"), ["a.h5: Read-only", "choose a place"]),
        (OSError(16, "Device busy", ".part.a.h5", None, "a.h5"), ["error: a.h5: Device busy"]),
    ],
)
def test_what_a_user_can_mend_is_one_line_and_status_2(error, parts, capsys, monkeypatch):
    def main():
        raise error

    monkeypatch.setattr("sys.argv", ["script.py"])
    monkeypatch.setattr(cli, "interrupt_on_sigterm", lambda: None)
    with pytest.raises(SystemExit) as caught:
        cli.run(main, product="file")
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("script.py: error: ")
    assert all(part in line for part in parts)


def test_a_mistake_of_the_programs_own_is_shown_whole(monkeypatch):
    def main():
        raise OSError("no error of the system's has no number")

    monkeypatch.setattr("sys.argv", ["script.py"])
    monkeypatch.setattr(cli, "interrupt_on_sigterm", lambda: None)
    with pytest.raises(OSError, match="has no number"):
        cli.run(main)


@pytest.mark.parametrize(("given", "expected"), [({}, "1"), ({"TF_ENABLE_ONEDNN_OPTS": "0"}, "0")])
def test_tensorflow_takes_onednn_unless_the_user_says_otherwise(given, expected, tmp_path):
    (tmp_path / "keras.py").write_text(
        KERAS.format('print(os.environ["TF_ENABLE_ONEDNN_OPTS"])')  # as it is imported
    )
    script = [sys.executable, "-c", "from classifier.backend import start_keras; start_keras()"]
    env = {k: v for k, v in os.environ.items() if k != "TF_ENABLE_ONEDNN_OPTS"}
    env["PYTHONPATH"] = f"{tmp_path}{os.pathsep}{ROOT}"
    told = subprocess.check_output(script, cwd=tmp_path, env=env | given, text=True)
    assert told == f"{expected}\n"


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_counter_tells_how_far_work_is_its_rate_and_the_time_left(monkeypatch):
    now, terminal = [100.0], Terminal()
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(sys, "stderr", terminal)
    counter = cli.Counter(4000, "images")
    shown = []
    for seconds, count in ((9, 100), (2, 900), (0.15, 10), (0.15, 10), (2.0, 980)):
        now[0] += seconds
        counter.advance(count)
        shown.append(terminal.getvalue().removeprefix("\r\033[K"))
        terminal.seek(0)
        terminal.truncate()
    assert shown == [
        "",  # there is no rate yet: to start may have taken long
        "1,000 of 4,000 images, 450.0 a second, 7 s left",
        "",  # too soon after the last one
        "1,020 of 4,000 images, 400.0 a second, 7 s left",
        "2,000 of 4,000 images, 441.9 a second, 5 s left",
    ]
    counter.clear()
    counter.clear()
    assert terminal.getvalue() == "\r\033[K"  # once
    counter.advance(0)  # at once
    assert "2,000 of" in terminal.getvalue()
    with counter:
        pass
    assert terminal.getvalue().endswith(" s left\r\033[K")


def test_a_counter_is_for_terminals_alone(monkeypatch):
    monkeypatch.setattr(cli.Counter, "EVERY", 0)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    counter = cli.Counter(10, "images")
    counter.advance(5)
    counter.clear()
    assert sys.stderr.getvalue() == ""


LAST_ACT = """
import atexit, os, sys, time
from classifier import cli
from classifier.errors import UserError

def main():
    cli.part_from_compiled_code(silent=True)
    cli.end_at_once(lambda: print("last act", flush=True))
    atexit.register(time.sleep, 60)
    os.write(1, b"of compiled code")
    os.write(2, b"of compiled code")
    print("said")
    if sys.argv[1] == "as usual":
        atexit.unregister(time.sleep)
        cli.end_as_usual()
    if sys.argv[1] == "error":
        raise UserError("of the user")
    if sys.argv[1] == "bug":
        raise ValueError("of ours")
    return 3

cli.run(main, name="script")
"""


@pytest.mark.parametrize(
    ("how", "status", "out", "told"),
    [
        ("end", 3, "said\nlast act\n", ""),
        ("error", 2, "said\nlast act\n", "script: error: of the user\n"),
        ("bug", 1, "said\nlast act\n", "ValueError: of ours\n"),
        ("as usual", 3, "said\n", ""),
    ],
)
def test_an_end_at_once_waits_for_nothing_and_compiled_code_is_silent(how, status, out, told):
    words = [sys.executable, "-c", LAST_ACT, how]
    ended = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert (ended.returncode, ended.stdout) == (status, out)
    assert ended.stderr.endswith(told)
    assert (ended.stderr == told) or how == "bug"
