"""TensorFlow, JAX and PyTorch: each trains, resumes and predicts, and reads the others' models.

`make backends` sets up an environment for each; where they are missing, these tests are skipped.
"""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import ROOT, run
from small import small_network
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from classifier.prediction import model_file
from classifier.training.run import load

PYTHONS = {
    "tensorflow": sys.executable,
    "jax": ROOT / ".venv-jax/bin/python",
    "torch": ROOT / ".venv-torch/bin/python",
}
READY = [ROOT / ".venv-jax/ready", ROOT / ".venv-torch/ready"]
SMALL = ROOT / "benchmarks/faulty/small.py"
EPOCHS = 3

pytestmark = pytest.mark.skipif(
    os.environ["KERAS_BACKEND"] != "tensorflow" or not all(map(os.path.exists, READY)),
    reason="make backends has not been run",
)


def begin(name, folder, *words):
    """Start a script on the small network in a backend's environment, which has no other one."""
    env = {key: value for key, value in os.environ.items() if key != "KERAS_BACKEND"}
    return subprocess.Popen(
        [PYTHONS[name], SMALL, *map(str, words)], cwd=folder, env=env, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


@pytest.fixture(scope="module")
def arrays(tiny, tmp_path_factory):
    """Arrays of 48 pixels, so that the first epochs train on smaller images."""
    path = tmp_path_factory.mktemp("backends") / "arrays.h5"
    made = run("prepro.py", "--dataset-path", "datasets/tiny", "--image-size", 48,
               "--target-per-class", 16, "--val-per-class", 7,
               "--output", path, cwd=tiny)  # fmt: skip
    assert made.returncode == 0, made.stderr
    return path


@pytest.fixture(scope="module", params=PYTHONS)
def trained(request, arrays, tmp_path_factory):
    """A folder in which a run was stopped and resumed: (name, folder, output)."""
    name = request.param
    folder = tmp_path_factory.mktemp(name)
    latest = folder / "checkpoints/model/latest.h5"
    words = ("train.py", "--data", arrays, "--model", "model.h5", "--num-epochs", EPOCHS,
             "--batch-size", 8, "--precision", "float32", "--dropout", 0.2, "--no-mirror",
             "--patience", 0, "--save-every-minutes", 0.0001, "--deterministic",
             "--tensorboard-vis")  # fmt: skip
    process = begin(name, folder, *words)
    while process.poll() is None and not latest.exists():
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    told = process.communicate(timeout=120)[1]
    assert process.returncode == 130, told
    assert load(latest).backend == name
    process = begin(name, folder, *words, "--resume")
    out, told = process.communicate(timeout=300)
    assert (process.returncode, told) == (0, "")
    assert f"{name} on cpu:0, float32 (as the run began)\n" in out
    return name, folder, out


def about(model):
    with small_network():
        return model_file.load_info(model).training


def test_a_run_that_was_stopped_is_resumed_to_its_end_and_report(trained):
    name, folder, out = trained
    training = about(folder / "model.h5")
    assert all(len(values) == EPOCHS for values in training["history"].values())
    assert name in training["versions"]
    assert "Test Accuracy = " in out
    (page,) = (folder / "logs").glob("*/report.html")
    assert page.stat().st_size > 100_000


def test_tensorboard_has_the_same_of_each(trained):
    _, folder, _ = trained
    (logs,) = (folder / "logs").iterdir()
    read = {}
    for part in (".", "train", "validation"):
        read[part] = EventAccumulator(str(logs / part), {"tensors": 0}).Reload()
    tags = {part: set(events.Tags()["tensors"]) for part, events in read.items()}
    epochs = {"epoch_loss", "epoch_accuracy"}
    assert tags["train"] == epochs | {"epoch_learning_rate", "keras", "augmented inputs"}
    assert tags["validation"] == epochs | {"confusion"}
    assert {"test/accuracy", "report/confusion"} <= tags["."]
    history = about(folder / "model.h5")["history"]
    for part, tag, kept in (("train", "loss", "loss"), ("validation", "accuracy", "val_accuracy")):
        points = read[part].Tensors(f"epoch_{tag}")
        assert [point.step for point in points] == [0, 1, 2]
        values = [point.tensor_proto.float_val[0] for point in points]
        np.testing.assert_allclose(values, history[kept], rtol=1e-6)


def test_a_model_of_one_gives_the_same_on_the_others(trained, tiny):
    name, folder, _ = trained

    def probabilities(reader, runtime):
        process = begin(reader, folder, "predict.py", "--model", "model.h5", "--runtime", runtime,
                        "--json", "--always", tiny / "datasets/tiny/train")  # fmt: skip
        out, told = process.communicate(timeout=120)
        assert (process.returncode, told) == (0, "")
        rows = [json.loads(line)["predictions"] for line in out.splitlines()]
        found = [{item["label"]: item["probability"] for item in row} for row in rows]
        return np.array([[row[label] for label in ("blue", "green", "red")] for row in found])

    wanted = probabilities(name, "numpy")
    assert wanted.shape == (36, 3)
    assert np.ptp(wanted, axis=0).max() > 0.1  # among the photographs
    for reader in PYTHONS:
        found = probabilities(reader, "keras")
        np.testing.assert_allclose(found, wanted, atol=1e-5, err_msg=f"{name} on {reader}")


def test_a_model_is_exported_for_keras_on_the_backend_that_is_there(trained, arrays):
    name, folder, _ = trained
    process = begin(name, folder, "classifier.export", "model.h5", "--to", "keras", "--data",
                    arrays)  # fmt: skip
    out, told = process.communicate(timeout=120)
    assert (process.returncode, told) == (0, "")
    assert "; 0 named otherwise, 0 unknown to one alone\n" in out
    assert (folder / "model.keras").exists()
