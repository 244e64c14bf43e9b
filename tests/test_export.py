"""python -m classifier.export, in this process, on a model of the small network.

Each format is read in its own runtime, by that runtime's own functions, and must say what the real
predict.py does of the same photographs. `make exports` installs the runtimes; the tests of those
that are missing are skipped.
"""

import contextlib
import errno
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import ROOT, run
from small import formats, run_export, small_network

from classifier.data.images import decode
from classifier.errors import UserError
from classifier.export import __main__ as export
from classifier.export import check, graph
from classifier.export.formats import FORMATS
from classifier.prediction import forward, model_file

SMALL = "benchmarks/faulty/small.py"
OUTPUT = {name: f"out{form.suffix}" for name, form in FORMATS.items()}


@pytest.fixture(scope="module")
def trained(tiny, tmp_path_factory):
    """A folder with datasets/tiny.h5, 21 photographs of val, and small.h5, trained on it."""
    folder = tmp_path_factory.mktemp("export")
    shutil.copytree(tiny / "datasets/tiny", folder / "datasets/tiny")
    for words in (
        ("prepro.py", "--dataset-path", "datasets/tiny", "--image-size", 32,
         "--target-per-class", 16, "--val-per-class", 7),
        (SMALL, "train.py", "--data", "datasets/tiny.h5", "--model", "small.h5",
         "--num-epochs", 4, "--batch-size", 16, "--precision", "float32", "--enlarge-to", 40,
         "--mirror"),
    ):  # fmt: skip
        made = run(*words, cwd=folder)
        assert made.returncode == 0, made.stderr
    return folder


@pytest.fixture(scope="module")
def photographs(trained):
    """Files of photographs, and what predict.py says of them, its JSON."""
    files = sorted((trained / "datasets/tiny/train").rglob("*.jpg"))[::4]
    said = run(SMALL, "predict.py", "--model", "small.h5", "--json", *files, cwd=trained)
    assert said.returncode == 0, said.stderr
    return files, [json.loads(line) for line in said.stdout.splitlines()]


@pytest.fixture
def call(trained, tmp_path, monkeypatch, capsys):
    """A function that runs the command in an empty folder: its output and errors."""
    monkeypatch.chdir(tmp_path)

    def main(*words, data=trained / "datasets/tiny.h5", model=trained / "small.h5"):
        given = ["--data", data] if data else []
        capsys.readouterr()
        assert run_export(model, *words, *given) == 0
        return capsys.readouterr()

    return main


def keras_run(place):
    import keras

    return keras.models.load_model(place)


def savedmodel_run(place):
    import tensorflow as tf

    model = tf.saved_model.load(place)
    return lambda images: model.serve(images)


def onnx_run(place):
    import onnxruntime

    session = onnxruntime.InferenceSession(place)
    names = [output.name for output in session.get_outputs()]
    return lambda images: dict(zip(names, session.run(None, {"image": images}), strict=True))


def litert_run(place):
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(str(place)).get_signature_runner()
    return lambda images: runner(image=images)


def openvino_run(place):
    import openvino

    network = openvino.Core().compile_model(
        Path(place, "model.xml"), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    return lambda images: {
        name: network(images)[network.output(name)] for name in ("probabilities", "score")
    }


@formats()
def test_a_format_says_what_predict_says(name, call, trained, photographs):
    told = call("--to", name, "--output", OUTPUT[name])
    found = re.fullmatch(
        rf"{OUTPUT[name]}: \d\.\d MB\n"
        r"compared with predict\.py on \d+ photographs of test: probabilities differ by (\S+) at "
        r"most, scores by (\S+); 0 named otherwise, 0 unknown to one alone\n"
        r"one photograph: \d+\.\d ms, the median of 30 \(\S+ \S+\)\n",
        told.out,
    )
    assert found, told.out
    assert float(found[1]) <= check.WITHIN
    assert float(found[2]) <= check.SCORES
    assert told.err == ""
    assert [path.name for path in Path().iterdir()] == [OUTPUT[name]]

    files, said = photographs
    with small_network():
        info = model_file.load_info(trained / "small.h5")
    metadata = json.loads(FORMATS[name].metadata(Path(OUTPUT[name])))
    assert metadata["classes"] == info.classes
    assert metadata["temperature"] == info.temperature
    assert metadata["threshold"] == info.known.threshold
    assert metadata["precision"] == "float32"
    compute = globals()[f"{name}_run"](OUTPUT[name])
    images = np.stack([decode(file, metadata["image_size"]) for file in files])
    for start, stop in ((0, len(files)), (0, 1)):  # a batch, and one alone
        found = compute(images[start:stop])
        scores = np.asarray(found["score"])
        for row, score, line in zip(
            np.asarray(found["probabilities"]), scores, said[start:stop], strict=True
        ):
            wanted = {part["label"]: part["probability"] for part in line["predictions"]}
            for label, probability in zip(metadata["classes"], row, strict=True):
                assert abs(wanted[label] - probability) < 2e-6  # JSON has six places
            assert (score < metadata["threshold"]) == line["unknown"]


@pytest.mark.skipif(bool(FORMATS["onnx"].lacks(False)), reason="no ONNX Runtime")
def test_the_program_in_the_docs_says_what_predict_says(call, photographs):
    (program,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/export.md").read_text(), re.S)
    call("--to", "onnx", "--no-verify", "--output", "models/resnet50.onnx", data=None)
    Path("images").mkdir()
    for file, said in zip(*photographs, strict=True):
        shutil.copy(file, "images/test.jpg")
        made = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
        share, label, *rest = re.split("% |\n", made.stdout)
        best = said["predictions"][0]
        assert label == best["label"], made.stderr
        assert abs(float(share) - 100 * best["probability"]) < 0.011
        assert rest == (["none of these", ""] if said["unknown"] else [""])


@formats(int8=True)
def test_int8_is_near_float32_and_not_it(name, call, photographs):
    call("--to", name, "--int8", "--no-verify", "--output", OUTPUT[name])
    files, said = photographs
    metadata = json.loads(FORMATS[name].metadata(Path(OUTPUT[name])))
    assert metadata["precision"] == "int8"
    compute = globals()[f"{name}_run"](OUTPUT[name])
    found = compute(np.stack([decode(file, 32) for file in files]))["probabilities"]
    wanted = [{part["label"]: part["probability"] for part in line["predictions"]} for line in said]
    wanted = np.array([[row[label] for label in metadata["classes"]] for row in wanted])
    assert 1e-5 < abs(np.asarray(found) - wanted).max() < 0.3  # 0.01 here


@formats(int8=True)
def test_int8_tells_of_its_accuracy(name, call, monkeypatch):
    monkeypatch.setattr(check, "DROP", 1.0)
    monkeypatch.setattr(check, "UNKNOWN", 1.0)
    told = call("--to", name, "--int8", "--output", OUTPUT[name])
    assert re.search(r"^accuracy on these: \d+\.\d\d%, of predict.py \d+\.\d\d%$", told.out, re.M)


def test_one_that_says_something_else_is_refused_and_the_older_file_stays(call, monkeypatch):
    call("--to", "keras", "--output", "out.keras", "--no-verify", data=None)
    older, whole = Path("out.keras").read_bytes(), graph.whole
    monkeypatch.setattr(
        graph, "whole", lambda n, head, i: whole(n, replace(head, temperature=0.5), i)
    )
    with pytest.raises(UserError, match=r"--to keras: .*differ.*up to 0\.\d+.*--no-verify"):
        call("--to", "keras", "--output", "out.keras")
    assert Path("out.keras").read_bytes() == older
    assert [path.name for path in Path().iterdir()] == ["out.keras"]


AGREED = check.Agreement(500, 1e-5, 1e-4, 0, 0, 450, 450)


@pytest.mark.parametrize(
    ("int8", "changes", "refusal"),
    [
        (False, {}, ""),
        (False, {"score": None}, ""),
        (False, {"probability": 1.1e-4}, "up to 0.00011, scores by 0.0001, more than 0.0001"),
        (False, {"score": 1.1e-3}, "scores by 0.0011"),
        (False, {"probability": float("nan")}, "gives no numbers"),
        (True, {"score": float("nan")}, "gives no numbers"),
        (True, {"probability": 0.5, "score": 1.0, "unknown": 25, "right": 445}, ""),
        (True, {"right": 444}, "names 444 of 500 photographs rightly, predict.py 450"),
        (True, {"unknown": 26}, "tells 26 of 500 photographs otherwise"),
    ],
)
def test_what_is_accepted(int8, changes, refusal):
    found = AGREED._replace(**changes)
    if refusal:
        with pytest.raises(UserError, match=re.escape(refusal)):
            check.accept(found, int8, "onnx")
    else:
        check.accept(found, int8, "onnx")


def test_without_arrays_it_is_exported_and_not_compared(call):
    told = call("--to", "keras", "--output", "out.keras", data=None)
    assert "compared" not in told.out
    assert told.err == (
        "note: not compared with predict.py: datasets/caltech_101.h5: no such arrays file of "
        "prepro.py\n"
    )
    assert Path("out.keras").exists()


@formats()
def test_an_older_export_is_replaced_and_nothing_else_is(name, call):
    def again(match=""):
        before = {path: path.lstat().st_mtime_ns for path in Path().rglob("*")}
        with pytest.raises(UserError, match=match) if match else contextlib.nullcontext():
            call("--to", name, "--output", OUTPUT[name], "--no-verify", data=None)
        return before != {path: path.lstat().st_mtime_ns for path in Path().rglob("*")}

    output, else_is_there = Path(OUTPUT[name]), f"--output {OUTPUT[name]}: something else is there"
    if FORMATS[name].folder:
        output.mkdir()  # an empty one is no loss
    assert again()
    assert again()
    if FORMATS[name].folder:
        mine = output / "mine" / min(FORMATS[name].folder)
        mine.parent.mkdir(parents=True)
        mine.touch()
        assert not again(else_is_there)
        shutil.rmtree(output)
        output.touch()
    else:
        output.write_text("mine")
    assert not again(else_is_there)
    output.unlink()
    output.symlink_to("nowhere")
    assert not again(else_is_there)
    output.unlink()
    output.mkdir()
    (output / "mine").touch()
    assert not again(else_is_there)


def test_what_a_library_makes_of_a_full_disk_is_told_as_such(call, monkeypatch):
    def write(_, model, place, *__):
        place.write_bytes(bytes(1000))
        raise RuntimeError("No space left")

    def usage(folder):
        return real._replace(free=1e9 - 1e9 * any(Path(folder).rglob("*.keras")))

    real = shutil.disk_usage(".")
    monkeypatch.setattr(type(FORMATS["keras"]), "write", write)
    with pytest.raises(RuntimeError):
        call("--to", "keras", "--no-verify", "--output", "a.keras", data=None)
    monkeypatch.setattr(shutil, "disk_usage", usage)
    with pytest.raises(OSError, match="No space left on device") as caught:
        call("--to", "keras", "--no-verify", "--output", "a.keras", data=None)
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, "a.keras")
    assert list(Path().iterdir()) == []


@formats()
def test_one_without_mirror_enlargement_or_score_and_with_odd_names(name, call):
    classes = ["b<&\u00e9", 'c "quoted"', "'"]
    with small_network():
        info = model_file.ModelInfo(classes, 32, "clean", temperature=0.7)
        keras.utils.set_random_seed(0)
        model_file.save(Path("odd.h5"), model_file.build(info), info)
        weights, _ = model_file.load_weights(Path("odd.h5"))
        head = model_file.head_of(weights, info)
        images = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3)).astype(np.uint8)
        wanted = head.probabilities(forward.averaged(forward.Network(weights), images, False))
    call("--to", name, "--no-verify", "--output", OUTPUT[name], model="odd.h5", data=None)
    metadata = json.loads(FORMATS[name].metadata(Path(OUTPUT[name])))
    assert metadata["classes"] == classes
    assert metadata["threshold"] is None
    found = FORMATS[name].load(Path(OUTPUT[name]))(images)
    assert list(found) == ["probabilities"]
    np.testing.assert_allclose(found["probabilities"], wanted, atol=1e-6)


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("--to", "keras", "--int8"), ("--int8", "no tool for --to keras")),
        (("--to", "tensorrt"), ("--to", "tensorrt", "openvino")),
        ((), ("required", "--to")),
        (("--to", "onnx", "--output", "a.h5"), ("--output", "a.h5", ".onnx")),
        (("--to", "openvino", "--output", "a.xml"), ("--output", "a.xml", "folder")),
        (("--to", "savedmodel", "--output", ".."), ("--output", "..", "folder")),
        (("--to", "keras", "--no-verify", "--data", "a.h5"), ("--data", "--no-verify")),
    ],
)
def test_bad_flags_are_one_line(words, parts, capsys):
    with pytest.raises(SystemExit) as ended:
        export.parse_args(["model.h5", *words])
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert len(told.strip().splitlines()) == 1
    assert all(part in told for part in parts), told


@pytest.mark.parametrize(
    ("words", "kind", "parts"),
    [
        (("--to", "keras"), "model", "no such model file"),
        (("--to", "keras", "--verify"), "data", "no such arrays file"),
        (("--to", "keras"), "larger", "prepro.py --image-size 32 makes them"),
        (("--to", "keras", "--output", "file/a.keras"), "file", "cannot create this folder"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(words, kind, parts, call, larger_arrays):
    given = {"model": {"model": "none.h5"}, "data": {"data": "none.h5"},
             "larger": {"data": larger_arrays}, "file": {}}[kind]  # fmt: skip
    if kind == "file":
        Path("file").touch()
    with pytest.raises(UserError, match=re.escape(parts)):
        call(*words, **given)
    assert [path.name for path in Path().iterdir()] == (["file"] if kind == "file" else [])


@pytest.mark.parametrize(
    ("model", "output", "part"),
    [
        ("a.keras", None, "a.keras would be lost"),
        ("a.keras", "../in/a.keras", "a.keras would be lost"),
        ("link.keras", "a.keras", "link.keras would be lost"),
        (".", None, "MODEL: .: is a folder"),
        ("..", None, "MODEL: ..: is a folder"),
    ],
)
def test_the_model_is_not_lost(model, output, part, tmp_path, monkeypatch, capsys):
    (tmp_path / "in").mkdir()
    monkeypatch.chdir(tmp_path / "in")
    Path("a.keras").touch()
    Path("link.keras").symlink_to("a.keras")
    with pytest.raises(SystemExit):
        export.parse_args([model, "--to", "keras", *(["--output", output] if output else [])])
    told = capsys.readouterr().err
    assert len(told.splitlines()) == 1
    assert part in told


@pytest.mark.parametrize("broken", [False, True])
def test_a_missing_package_is_one_line_with_the_command_that_installs_it(
    broken, call, monkeypatch, tmp_path
):
    monkeypatch.setattr(type(FORMATS["savedmodel"]), "needs", ("tensorflow", "no_such_package"))
    if broken:
        (tmp_path / "no_such_package.py").write_text("import numpy.of_an_earlier_version")
        monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=r"no_such_package.*pip install -r requirements-export.txt"):
        call("--to", "savedmodel", "--no-verify", data=None)


def test_the_command_itself_prints_three_lines(trained, tmp_path):
    words = (SMALL, "classifier.export", trained / "small.h5", "--to", "savedmodel")
    data = trained / "datasets/tiny.h5"
    made = run(*words, "--output", "made", "--data", data, cwd=tmp_path)
    assert (made.returncode, made.stderr) == (0, "")
    assert len(made.stdout.splitlines()) == 3
