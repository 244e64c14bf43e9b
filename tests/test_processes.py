"""Training in several real processes on JAX, which meet on loopback.

`make backends` sets up their environment; where it is missing, these tests are skipped.
"""

import os
import signal
import socket
import subprocess
import time

import numpy as np
import pytest
from conftest import ROOT, assert_one_line_error
from small import small_network, starting_model

from classifier.prediction import model_file
from classifier.training.run import load

PYTHON = ROOT / ".venv-jax/bin/python"
SMALL = ROOT / "benchmarks/faulty/small.py"
# All there is: the first weights, mixed crops, dropout, a regression at the end.
WORDS = (
    "train.py", "--recipe", "scratch", "--num-epochs", 2, "--refit", "--batch-size", 8,
    "--precision", "float32", "--patience", 0, "--dropout", 0.2,
)  # fmt: skip
OFTEN = ("--save-every-minutes", 0.0001)

pytestmark = pytest.mark.skipif(
    os.environ["KERAS_BACKEND"] != "tensorflow" or not (ROOT / ".venv-jax/ready").exists(),
    reason="make backends has not been run",
)


def free_port():
    with socket.create_server(("", 0)) as server:
        return server.getsockname()[1]


def by_flags(index, count, port):
    return ("--coordinator", f"127.0.0.1:{port}", "--num-processes", count,
            "--process-id", index), {}  # fmt: skip


def by_itself(index, count, port):
    """One process of four devices."""
    return (), {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}


def by_slurm(index, count, port):
    """Of two devices each."""
    return (), {"SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "localhost", "SLURM_LOCALID": index,
                "SLURM_NTASKS": count, "SLURM_PROCID": index, "JAX_COORDINATOR_PORT": port,
                "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}  # fmt: skip


def by_open_mpi(index, count, port):
    return (), {"OMPI_MCA_orte_hnp_uri": "4096.0;tcp://127.0.0.1:9", "OMPI_COMM_WORLD_SIZE": count,
                "OMPI_COMM_WORLD_RANK": index, "OMPI_COMM_WORLD_LOCAL_RANK": index,
                "JAX_COORDINATOR_PORT": port}  # fmt: skip


def by_kubernetes(index, count, port):
    return (), {"JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}", "JAX_NUM_PROCESSES": count,
                "JAX_PROCESS_ID": index}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_arrays):
    folder = tmp_path_factory.mktemp("processes")
    starting_model(folder / "start.h5", tiny_arrays)
    return folder


@pytest.fixture(scope="module")
def begin(tiny_arrays, folder):
    """A function that starts train.py on the small network; those compiled before are reused."""
    known = {name: value for name, value in os.environ.items() if "_proxy" not in name.lower()}
    known |= {
        "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    }
    del known["KERAS_BACKEND"]

    started = []

    def begin(*words, variables=None, place=folder):
        start = ("--data", tiny_arrays, "--init", folder / "start.h5")
        words = [PYTHON, SMALL, *WORDS, *start, *words]
        told = {name: str(value) for name, value in (variables or {}).items()}
        process = subprocess.Popen(
            list(map(str, words)), cwd=place, env={**known, **told}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        started.append(process)
        return process

    yield begin
    for process in started:  # those of a test that failed
        process.kill()


def together(begin, folder, count, how, *words):
    """Start so many processes, the last first; all but process 0 in a folder of their own."""
    port, started = free_port(), []
    (folder / "others").mkdir(exist_ok=True)
    for index in reversed(range(count)):
        flags, variables = how(index, count, port)
        place = folder / "others" if index else folder
        told = ("--distribute", *flags, *words)
        started.append(begin(*told, variables=variables, place=place))
    return started[::-1]


def assert_alone_at_work(folder):
    assert list((folder / "others").iterdir()) == []


def ended(process, timeout=240):
    """Wait for a process; return it as subprocess.run does."""
    out, told = process.communicate(timeout=timeout)
    return subprocess.CompletedProcess(process.args, process.returncode, out, told)


def figures_of(model):
    with small_network():
        training = model_file.load_info(model).training
    return {name: training[name] for name in ("start", "history", "end")}


def wait_for(path, process):
    while process.poll() is None and not path.exists():
        time.sleep(0.05)


def assert_same(figures, wanted):
    assert all(len(values) == 2 for values in figures["history"].values())
    for part, names in wanted.items():
        for name in set(names) - {"minutes"}:
            np.testing.assert_allclose(
                figures[part][name], names[name], 1e-4, 1e-4, err_msg=f"{part} {name}"
            )


@pytest.fixture(scope="module")
def alone(begin, folder):
    """The figures of one process."""
    result = ended(begin("--model", "alone.h5"))
    assert (result.returncode, result.stderr) == (0, "")
    figures = figures_of(folder / "alone.h5")
    assert figures["history"]["loss"][1] < figures["history"]["loss"][0]
    return figures


@pytest.mark.parametrize(("count", "how"), [(1, by_itself), (2, by_slurm), (4, by_kubernetes)])
def test_the_loss_curve_is_that_of_one_process(begin, folder, alone, count, how):
    model = f"{count}.h5"
    words = ("--model", model, "--tensorboard-vis")
    first, *others = map(ended, together(begin, folder, count, how, *words))
    assert (first.returncode, first.stderr) == (0, "")
    on = f"4 devices of {count} processes" if count > 1 else "cpu:0, cpu:1, cpu:2, cpu:3"
    assert f"jax on {on}, float32" in first.stdout
    assert "Test Accuracy = " in first.stdout
    for other in others:
        assert (other.returncode, other.stdout, other.stderr) == (0, "", "")
    assert_same(figures_of(folder / model), alone)
    with small_network():
        device = model_file.load_info(folder / model).training["device"]
    assert device.startswith("4 devices, each on ")
    assert_alone_at_work(folder)


def test_a_killed_process_ends_the_others_in_a_line_and_the_run_is_resumed(begin, folder, alone):
    latest = folder / "checkpoints/killed/latest.h5"
    words = ("--model", "killed.h5", *OFTEN)
    first, second = together(begin, folder, 2, by_flags, *words)
    wait_for(latest, first)
    second.kill()
    began = time.monotonic()
    result = ended(first)
    assert time.monotonic() - began < 60
    assert result.returncode != 0
    (line,) = result.stderr.splitlines()  # Python's, or where XLA was quicker the watcher's
    assert (
        "process 0 of 2: another one has ended" in line or "process 0 of 2: ended at once" in line
    )
    assert "--resume" in line
    assert "process 1 of 2: ended at once: killed" in ended(second).stderr
    assert not (folder / "killed.h5").exists()
    resumed = together(begin, folder, 2, by_open_mpi, *words, "--resume")
    first, second = map(ended, resumed)
    assert "resuming run" in first.stdout
    assert [first.returncode, second.returncode] == [0, 0], first.stderr + second.stderr
    assert_same(figures_of(folder / "killed.h5"), alone)
    assert_alone_at_work(folder)


def test_a_signal_to_one_stops_all_at_a_step_and_one_process_can_go_on(begin, folder, alone):
    latest = folder / "checkpoints/stopped/latest.h5"
    first, second = together(begin, folder, 2, by_flags, "--model", "stopped.h5", *OFTEN)
    wait_for(latest, first)
    second.send_signal(signal.SIGTERM)
    first, second = ended(first), ended(second)
    assert [first.returncode, second.returncode] == [130, 130], first.stderr + second.stderr
    assert "stopped after" in first.stderr
    assert "stopping soon" in second.stderr
    assert load(latest).place in first.stderr
    result = ended(begin("--model", "stopped.h5", "--resume"))
    assert result.returncode == 0, result.stderr
    assert_same(figures_of(folder / "stopped.h5"), alone)


@pytest.mark.parametrize(("index", "others"), [(0, "the others have"), (1, "process 0, or others")])
def test_who_does_not_come_is_waited_for_no_longer_than_asked(begin, index, others):
    flags, _ = by_flags(index, 2, free_port())
    result = ended(begin("--distribute", *flags, "--coordinator-timeout", 2, "--model", "late.h5"))
    assert_one_line_error(result, f"process {index} of 2: {others}", "not come in 2 seconds")


def test_a_signal_ends_the_waiting_for_others(begin):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(120)
        flags, _ = by_flags(1, 2, server.getsockname()[1])
        process = begin("--distribute", *flags, "--model", "late.h5")
        asking, _ = server.accept()
        with asking:  # it waits for an answer
            process.send_signal(signal.SIGTERM)
            result = ended(process, timeout=60)
    assert (result.returncode, result.stderr.strip()) == (
        130, "train.py: stopped; nothing was left half written"
    )  # fmt: skip


def test_processes_with_other_flags_end_in_a_line(begin):
    port = free_port()
    first, second = (
        begin("--distribute", *by_flags(index, 2, port)[0], "--model", "other.h5", "--seed", index)
        for index in (0, 1)
    )
    assert_one_line_error(ended(second), "--seed is 1, process 0 has 0: give all the same")
    assert_one_line_error(ended(first), "process 0 of 2")
