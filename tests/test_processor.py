"""What the system tells of the processor."""

import os

from classifier.processor import cores, cpu_flags, name


def test_flags_are_read_on_x86_and_on_arm(tmp_path):
    path = tmp_path / "cpuinfo"
    path.write_text("processor\t: 0\nflags\t\t: fpu avx512f\n\nprocessor\t: 1\nflags\t\t: fpu\n")
    assert {"fpu", "avx512f"} <= cpu_flags(path)
    path.write_text("processor\t: 0\nFeatures\t: asimd bf16\n")
    assert {"asimd", "bf16"} <= cpu_flags(path)


def test_where_the_system_tells_no_flags_there_are_none(tmp_path):
    assert cpu_flags(tmp_path / "none") == set()
    (tmp_path / "empty").touch()
    assert cpu_flags(tmp_path / "empty") == set()


def test_cores_are_those_this_process_may_use(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5, 7}, raising=False)
    assert cores() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert cores() == 6


def test_its_name_is_the_first_cores(tmp_path, monkeypatch):
    path = tmp_path / "cpuinfo"
    path.write_text("processor\t: 0\nmodel name\t: A B: C \nprocessor\t: 1\nmodel name\t: D\n")
    assert name(path) == "A B: C"
    monkeypatch.setattr("platform.processor", lambda: "kind")
    assert name(tmp_path / "none") == "kind"
