"""Which number format is taken on which device."""

import sys
from types import SimpleNamespace

import keras
import pytest

from classifier import backend
from classifier.errors import UserError
from classifier.processor import cpu_flags
from classifier.training import precision, trial


@pytest.fixture
def processor(monkeypatch, tmp_path):
    """A function that puts a processor with these flags in this one's place, without a GPU."""

    def put(line, speed):
        """`speed` is what the trial measures; None: it must not be run."""
        (tmp_path / "cpuinfo").write_text(f"processor : 0\n{line}\n")
        found = cpu_flags(tmp_path / "cpuinfo")
        monkeypatch.setattr(precision, "devices", lambda: ["cpu:0"])
        monkeypatch.setattr(precision, "cpu_flags", lambda path="": found)
        monkeypatch.setattr(trial, "bfloat16_speed", speed and (lambda: speed))

    return put


@pytest.mark.parametrize(
    ("line", "speed", "expected"),
    [
        ("flags : fpu avx512f", None, ("float32", "the processor has no bfloat16 units")),
        ("Features : fp asimd", None, ("float32", "the processor has no bfloat16 units")),
        ("flags : avx512_bf16", 0.21, ("float32", "bfloat16 is 0.21x as fast here")),
        ("flags : avx512_bf16", 1.54, ("bfloat16", "1.5x as fast as float32 here")),
        ("flags : amx_bf16", 1.09, ("float32", "bfloat16 is 1.09x as fast here")),
        ("Features : asimd bf16", 1.1, ("bfloat16", "1.1x as fast as float32 here")),
        ("no flags", 2.0, ("bfloat16", "2.0x as fast as float32 here")),
    ],
)
def test_auto_takes_what_a_trial_finds_faster_where_there_may_be_units(
    processor, line, speed, expected
):
    processor(line, speed)
    assert precision.choose("auto") == expected
    assert precision.choose("float16") == ("float16", "as asked")


def test_no_trial_decides_where_a_second_run_must_choose_the_same(processor):
    processor("flags : avx512_bf16", None)
    assert precision.choose("auto", deterministic=True)[0] == "float32"
    assert precision.choose("bfloat16", deterministic=True)[0] == "bfloat16"


@pytest.mark.parametrize("name", ["jax", "torch"])
@pytest.mark.parametrize(
    ("line", "expected"),
    [("flags : avx512_bf16", "float32"), ("flags : amx_bf16", "bfloat16"), ("", "float32")],
)
def test_on_other_backends_the_flags_alone_decide(processor, monkeypatch, name, line, expected):
    processor(line, None)
    monkeypatch.setattr(keras.backend, "backend", lambda: name)
    assert precision.choose("auto")[0] == expected


@pytest.mark.parametrize(
    ("gpus", "capability", "expected"),
    [(0, None, "float32"), (1, 6, "float32"), (1, 7, "float16"), (2, 9, "bfloat16")],
)
def test_torch_for_which_keras_lists_no_devices(monkeypatch, gpus, capability, expected):
    def no_list():
        raise AttributeError("'NoneType' object has no attribute 'list_devices'")

    cuda = SimpleNamespace(
        device_count=lambda: gpus,
        get_device_capability=lambda number: (capability, 0),
        get_device_name=lambda number: f"Abacus {number}",
    )
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    device = SimpleNamespace(type="cuda" if gpus else "cpu")
    monkeypatch.setattr(keras.ops, "zeros", lambda shape: SimpleNamespace(device=device))
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    monkeypatch.setattr(keras.distribution, "list_devices", no_list)
    monkeypatch.setattr(precision, "cpu_flags", lambda path="": set())
    assert backend.start_keras() is keras
    assert precision.devices() == ([f"cuda:{n}" for n in range(gpus)] or ["cpu:0"])
    assert precision.choose("auto")[0] == expected
    assert ("Abacus 0" if gpus else "cores of") in precision.device()


@pytest.mark.parametrize(
    ("flags", "end"),
    [
        ({"avx512_bf16", "amx_bf16"}, " with AMX"),
        ({"avx512f", "avx512_bf16"}, " with AVX512-BF16"),
        ({"avx2"}, ""),
    ],
)
def test_a_processors_units_for_bfloat16_are_named(monkeypatch, flags, end):
    monkeypatch.setattr(precision, "cpu_flags", lambda path="": flags)
    monkeypatch.setattr(precision.processor, "name", lambda: "Abacus")
    monkeypatch.setattr(precision, "devices", lambda: ["cpu:0"])
    assert precision.device().endswith(f" cores of Abacus{end}")
    assert precision.device(4) == f"4 devices, each on {precision.device()}"


@pytest.mark.parametrize(
    ("capability", "expected"), [("9.0", "bfloat16"), ("7.5", "float16"), (None, "bfloat16")]
)
def test_jax_tells_the_capability_of_its_first_gpu(monkeypatch, capability, expected):
    gpu = SimpleNamespace(device_kind="Abacus")
    if capability:
        gpu.compute_capability = capability
    monkeypatch.setitem(sys.modules, "jax", SimpleNamespace(devices=lambda: [gpu]))
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    monkeypatch.setattr(precision, "devices", lambda: ["gpu:0"])
    assert precision.choose("auto")[0] == expected
    assert precision.device() == "Abacus"


def test_gpus_are_named_with_how_many_are_used_of_each(monkeypatch):
    monkeypatch.setattr(precision, "devices", lambda: ["gpu:0", "gpu:1", "gpu:2"])
    models = ["Abacus", "Abacus", "Sieve"]
    monkeypatch.setattr(precision, "_gpu", lambda number: (models[number], 9))
    named = [precision.device(count) for count in (1, 2, 3)]
    assert named == ["Abacus", "2 x Abacus", "2 x Abacus, Sieve"]


@pytest.mark.parametrize(("name", "gpu"), [("tensorflow", 0), ("torch", 0), ("jax", 0), ("jax", 1)])
def test_each_backend_is_told_to_compute_the_same_bits(monkeypatch, name, gpu):
    told = []
    monkeypatch.setattr(keras.backend, "backend", lambda: name)
    monkeypatch.setattr(precision, "devices", lambda: ["gpu:0" if gpu else "cpu:0"])
    experimental = SimpleNamespace(enable_op_determinism=lambda: told.append("tensorflow"))
    config = SimpleNamespace(experimental=experimental)
    monkeypatch.setitem(sys.modules, "tensorflow", SimpleNamespace(config=config))
    torch = SimpleNamespace(use_deterministic_algorithms=lambda on: told.append("torch"))
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    if gpu:
        with pytest.raises(UserError, match=f"set XLA_FLAGS={precision.JAX_FLAG}"):
            precision.make_deterministic()
        monkeypatch.setenv("XLA_FLAGS", f"--a {precision.JAX_FLAG}")
    precision.make_deterministic()
    assert told == [name] * (name != "jax")
