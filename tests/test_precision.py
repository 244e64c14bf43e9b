"""Which number format is taken on which device."""

import sys
from types import SimpleNamespace

import keras
import pytest

from classifier import cli
from classifier.training import precision


@pytest.mark.parametrize(
    ("flags", "expected"),
    [("fpu sse2", "float32"), ("avx512f avx512_bf16", "float32"), ("amx_bf16", "bfloat16")],
)
def test_auto_takes_what_the_processor_does_fast(monkeypatch, tmp_path, flags, expected):
    (tmp_path / "cpuinfo").write_text(f"processor : 0\nflags : {flags}\n")
    found = precision.cpu_flags(tmp_path / "cpuinfo")
    assert precision.cpu_flags(tmp_path / "none") == set()
    monkeypatch.setattr(precision, "devices", lambda: ["cpu:0"])
    monkeypatch.setattr(precision, "cpu_flags", lambda path="": found)
    assert precision.choose("auto")[0] == expected
    assert precision.choose("float16")[0] == "float16"


@pytest.mark.parametrize(
    ("gpus", "capability", "expected"),
    [(0, None, "float32"), (1, 6, "float32"), (1, 7, "float16"), (2, 9, "bfloat16")],
)
def test_torch_for_which_keras_lists_no_devices(monkeypatch, gpus, capability, expected):
    def no_list():
        raise AttributeError("'NoneType' object has no attribute 'list_devices'")

    cuda = SimpleNamespace(device_count=lambda: gpus, get_device_capability=lambda: (capability, 0))
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    monkeypatch.setattr(keras.distribution, "list_devices", no_list)
    monkeypatch.setattr(precision, "cpu_flags", lambda path="": set())
    assert cli.start_keras() is keras
    assert precision.devices() == ([f"cuda:{n}" for n in range(gpus)] or ["cpu:0"])
    assert precision.choose("auto")[0] == expected
    assert ("cuda:0" if gpus else "cores of") in precision.device()
