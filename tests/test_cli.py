import argparse

import pytest
from conftest import assert_one_line_error, run

from classifier import cli


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
