import argparse

import pytest
from conftest import assert_one_line_error, run

from classifier import cli
from classifier.training import precision


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
    whole, number = cli.integer(1, 5), cli.real(0, 2, low_open=True)
    assert [whole("1"), whole("5"), number("2"), number("1e-9")] == [1, 5, 2.0, 1e-9]
    for check, texts in ((whole, ("0", "6", "x", "1.0")), (number, ("0", "2.1", "nan", "inf", ""))):
        for text in texts:
            with pytest.raises(argparse.ArgumentTypeError):
                check(text)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [("fpu sse2", "float32"), ("avx512f avx512_bf16", "float32"), ("amx_bf16", "bfloat16")],
)
def test_auto_takes_what_the_processor_does_fast(monkeypatch, tmp_path, flags, expected):
    (tmp_path / "cpuinfo").write_text(f"processor : 0\nflags : {flags}\n")
    found = precision.cpu_flags(tmp_path / "cpuinfo")
    assert precision.cpu_flags(tmp_path / "none") == set()
    monkeypatch.setattr(precision, "cpu_flags", lambda path="": found)
    assert precision.choose("auto")[0] == expected
    assert precision.choose("float16")[0] == "float16"
