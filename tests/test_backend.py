"""Which backend Keras is started on, and what is said where it cannot be."""

import importlib.metadata
import importlib.util
import os

import pytest
from conftest import ROOT, assert_one_line_error, run

from classifier import backend


@pytest.fixture
def installed(monkeypatch):
    """A function: only these packages are installed from then on."""

    def only(*names):
        monkeypatch.setattr(
            importlib.util, "find_spec", lambda name: name if name in names else None
        )

    monkeypatch.delenv("KERAS_BACKEND")
    return only


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("tensorflow", "jax", "torch"), "tensorflow"),
        (("jax", "torch"), "jax"),
        (("torch",), "torch"),
        ((), "tensorflow"),
    ],
)
def test_the_first_that_is_installed_is_taken_unless_another_is_asked_for(
    installed, monkeypatch, names, expected
):
    installed(*names)
    assert backend.chosen() == expected
    monkeypatch.setenv("KERAS_BACKEND", "")
    assert backend.chosen() == expected
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    assert backend.chosen() == "torch"


@pytest.mark.parametrize(
    ("names", "asked", "reason"),
    [
        (("keras", "jax"), "jax", ""),
        (("keras", "jax"), "torch",
         "torch is not installed: pip install -r requirements-torch.txt"),
        (("jax",), "jax", "keras is not installed: pip install -r requirements-jax.txt"),
        (("keras", "tensorflow"), "openvino",
         "KERAS_BACKEND: openvino is none of tensorflow, jax, torch"),
        (("keras", "tensorflow"), "a\nb",
         "KERAS_BACKEND: 'a\\nb' is none of tensorflow, jax, torch"),
    ],
)  # fmt: skip
def test_what_keras_cannot_start_with_is_told_with_the_remedy(
    installed, monkeypatch, names, asked, reason
):
    installed(*names)
    monkeypatch.setenv("KERAS_BACKEND", asked)
    assert backend.lacking() == reason


def test_each_backend_has_its_packages():
    for name, requirements in backend.REQUIREMENTS.items():
        assert f"\n{name}==" in (ROOT / requirements).read_text()
        assert "\n-r requirements-base.txt\n" in (ROOT / requirements).read_text()


def test_a_backend_that_is_none_or_broken_is_one_line(tiny, tiny_arrays, tmp_path, monkeypatch):
    words = ("--data", tiny_arrays, "--batch-size", 8, "--num-epochs", 1)
    monkeypatch.setenv("KERAS_BACKEND", "none")
    error = run("train.py", *words, cwd=tmp_path)
    assert_one_line_error(error, "KERAS_BACKEND: none is none of")
    (tmp_path / "broken/torch").mkdir(parents=True)
    (tmp_path / "broken/torch/__init__.py").write_text("import no_such_library")
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "broken"))
    error = run("train.py", *words, cwd=tmp_path)
    assert_one_line_error(
        error, "torch does not start: No module named 'no_such_library'", "requirements-torch.txt"
    )


@pytest.mark.parametrize(
    ("version", "flags", "expected"),
    [
        ("0.10.2", None, backend.GRAPHS),
        ("0.11.2.dev1", "--a=1", f"--a=1 {backend.GRAPHS}"),
        ("0.6.2", "--a=1", "--a=1"),
        ("of my own", None, ""),
        ("1.0", "--xla_gpu_enable_command_buffer=FUSION", "--xla_gpu_enable_command_buffer=FUSION"),
    ],
)
def test_jax_is_asked_for_graphs_where_it_knows_them_and_the_user_has_not_spoken(
    monkeypatch, version, flags, expected
):
    monkeypatch.setenv("XLA_FLAGS", flags or "")
    monkeypatch.setattr(importlib.metadata, "version", lambda name: version)
    backend._ask_for_graphs()
    assert os.environ["XLA_FLAGS"] == expected
