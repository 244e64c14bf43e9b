"""What a fuzzer found of the decoder's and the file readers' branches, replayed.

`python benchmarks/faulty/fuzz.py` goes on from here.
"""

import io
import sys

import pytest
from conftest import ROOT
from PIL import Image

sys.path.insert(0, str(ROOT / "benchmarks"))

from faulty import fuzz

FILES = {name: sorted((fuzz.CORPUS / name).iterdir()) for name in fuzz.LONGEST}


@pytest.fixture(autouse=True)
def small():
    with fuzz.small():
        yield


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", fuzz.LONGEST)
def test_the_corpus_gives_results_or_errors_of_one_line(name, monkeypatch):
    refused = []
    told = fuzz.one_line
    monkeypatch.setattr(fuzz, "one_line", lambda text: refused.append(text) or told(text))
    for file in FILES[name]:
        try:
            getattr(fuzz, name)(file.read_bytes())
        except Exception as error:
            raise AssertionError(f"{file} raises") from error
    assert len(set(map(str, refused))) > 3  # they go to different ends


def test_the_corpus_is_small():
    sizes = [file.stat().st_size for files in FILES.values() for file in files]
    assert sum(sizes) < 300_000
    assert len(sizes) < 100
    for name, files in FILES.items():
        assert len(files) > 5
        assert max(file.stat().st_size for file in files) <= fuzz.LONGEST[name]


def test_what_the_targets_let_pass_is_what_users_are_told_in_a_line(tmp_path, monkeypatch):
    def fail(error):
        def raising(*_):
            raise error

        return raising

    fuzz.sound(tmp_path)
    sound = (tmp_path / "arrays/latest").read_bytes()
    for error in (KeyError("x"), OSError("no number"), RuntimeError(), RecursionError()):
        monkeypatch.setattr("classifier.data.arrays.Arrays.labels", fail(error))
        with pytest.raises(type(error)):
            fuzz.arrays(sound)
    monkeypatch.setattr("classifier.data.arrays.Arrays.labels", fail(OSError(5, "input/output")))
    fuzz.arrays(sound)

    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG")
    for error in (MemoryError(), OSError(5, "input/output")):  # no fault of a file in memory
        monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", fail(error))
        with pytest.raises((MemoryError, OSError)):
            fuzz.photographs(file.getvalue())


def test_what_the_fuzzer_starts_from_is_sound(tmp_path, monkeypatch):
    fuzz.sound(tmp_path)
    told = []
    monkeypatch.setattr(fuzz, "one_line", told.append)
    for form in ("earliest", "latest"):
        fuzz.models((tmp_path / "models" / form).read_bytes())
        assert told == []
        fuzz.arrays((tmp_path / "arrays" / form).read_bytes())
        assert told.pop() == "FILE: damaged, it has changed since it was made; make it again"


def test_mutated_files_keep_their_length_and_differ(monkeypatch):
    """HDF5 tells places by number: what lies behind a change must stay where it is."""
    monkeypatch.setitem(
        sys.modules, "atheris", type("atheris", (), {"Mutate": lambda d, _: d + b"x"})
    )
    data = FILES["models"][0].read_bytes()
    made = [fuzz.in_place(data, len(data), seed) for seed in range(300)]
    assert {len(new) - len(data) for new in made} == {0, 1}
    kept = [new for new in made if len(new) == len(data)]
    assert len(set(kept)) > 200
    assert max(sum(a != b for a, b in zip(new, data, strict=True)) for new in kept) <= 32


def test_a_row_counts_runs_and_keeps_what_crashes(tmp_path, monkeypatch):
    from faulty import row

    monkeypatch.setattr(fuzz, "FOUND", tmp_path / "found")
    stats = "stat::number_of_executed_units: {}\nstat::slowest_unit_time_sec: {}\n"
    crash = "KeyError: 'x'\nTest unit written to /f/crash-1\n"
    said = iter([(77, crash + stats.format(9, 2)), (0, stats.format(30, 1))])
    times = iter([0, 0, 5, 11])
    monkeypatch.setattr(fuzz.time, "monotonic", lambda: next(times))

    def run(*_, **__):
        status, err = next(said)
        return row.Ended(status, "", err, seconds=3.0, megabytes=90.0)

    monkeypatch.setattr(row, "run", run)
    counted = row.Row("fuzz_models")
    fuzz.fuzz_models(counted, tmp_path, seed=0, seconds=10)
    assert counted.tried == 39
    assert counted.lost == ["/f/crash-1: KeyError: 'x'"]
    assert (counted.seconds, counted.megabytes) == (2.0, 90.0)
