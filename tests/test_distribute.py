"""Which processes there are, and training on several devices of one machine."""

import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT, assert_one_line_error, run
from small import run_train, small_network, starting_model

from classifier.errors import UserError
from classifier.prediction import model_file
from classifier.training import distribute
from classifier.training.distribute import Member, member_of

SLURM = {"SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "a[1-2]", "SLURM_LOCALID": "0",
         "SLURM_NTASKS": "4", "SLURM_PROCID": "3"}  # fmt: skip
OPEN_MPI = {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "3"}
FOUND = {"OMPI_MCA_orte_hnp_uri": "1.0;tcp://10.0.0.1:9", "OMPI_COMM_WORLD_LOCAL_RANK": "1"}
KUBEFLOW = {"JAX_NUM_PROCESSES": "4", "JAX_PROCESS_ID": "3", "JAX_COORDINATOR_ADDRESS": "a:1234"}
JAXJOB = {"NUM_PROCESSES": "4", "PROCESS_ID": "3", "COORDINATOR_ADDRESS": "a",
          "COORDINATOR_PORT": "1234"}  # fmt: skip


@pytest.mark.parametrize(
    ("flags", "variables", "expected"),
    [
        ((None, None, None), {}, Member()),
        (("a:1234", 4, 3), {}, Member(3, 4, "a:1234")),
        (("[::1]:1234", 4, 3), {}, Member(3, 4, "[::1]:1234")),
        (("a:1234", 1, 0), {}, Member()),
        ((None, 1, 0), {}, Member()),
        (
            (None, None, None),
            {**OPEN_MPI, "OMPI_COMM_WORLD_SIZE": "1", "OMPI_COMM_WORLD_RANK": "0"},
            Member(),
        ),
        ((None, None, None), SLURM, Member(3, 4, "", "slurm")),
        (("a:1234", None, None), SLURM, Member(3, 4, "a:1234", "slurm")),
        ((None, None, None), {**SLURM, "SLURM_NTASKS": "1", "SLURM_PROCID": "0"}, Member()),
        # In a job's script itself, which srun has not started
        ((None, None, None), {"SLURM_NTASKS": "4", "SLURM_PROCID": "0"}, Member()),
        ((None, None, None), {**OPEN_MPI, **FOUND}, Member(3, 4, "", "ompi")),
        (("a:1234", None, None), OPEN_MPI, Member(3, 4, "a:1234")),
        ((None, None, None), KUBEFLOW, Member(3, 4, "a:1234")),
        ((None, None, None), JAXJOB, Member(3, 4, "a:1234")),
        ((None, 2, 1), KUBEFLOW, Member(1, 2, "a:1234")),
    ],
)
def test_flags_and_launchers_tell_which_process_this_is(flags, variables, expected):
    assert member_of(*flags, variables) == expected


@pytest.mark.parametrize(
    ("flags", "variables", "told"),
    [
        (("a:1234", None, None), {}, "--num-processes, --process-id: needed too"),
        ((None, 4, 3), {}, "--coordinator: needed too"),
        ((None, None, None), OPEN_MPI, "--coordinator: needed too"),
        (("a:1234", 4, 4), {}, "--process-id: 4 is none of 0 to 3"),
        (("a", 4, 3), {}, "--coordinator: a is not HOST:PORT"),
        ((":1234", 4, 3), {}, "is not HOST:PORT"),
        (("a:65536", 4, 3), {}, "is not HOST:PORT"),
        (("a:\n1", 4, 3), {}, "--coordinator: 'a:\\n1' is not HOST:PORT"),
        ((None, None, None), {**KUBEFLOW, "JAX_PROCESS_ID": "x"}, "JAX_PROCESS_ID: x is not"),
    ],
)
def test_what_does_not_tell_it_is_one_line(flags, variables, told):
    with pytest.raises(UserError) as error:
        member_of(*flags, variables)
    assert told in str(error.value)
    assert "\n" not in str(error.value)


def test_several_processes_need_jax_and_several_devices_not_torch(
    tiny_arrays, tmp_path, monkeypatch
):
    words = ("--data", tiny_arrays, "--batch-size", 8, "--num-epochs", 1, "--distribute")
    many = ("--coordinator", "localhost:1", "--num-processes", 2, "--process-id", 0)
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    error = run("train.py", *words, *many, cwd=tmp_path)
    assert_one_line_error(
        error, "MultiWorkerMirroredStrategy", "keras-team/keras#20585", "KERAS_BACKEND=jax"
    )
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    with pytest.raises(UserError, match="not on PyTorch: KERAS_BACKEND=jax"):
        distribute.join(Member(), 1)


def test_flags_that_tell_of_processes_need_distribute(tiny_arrays, tmp_path):
    words = ("--data", tiny_arrays, "--num-processes", 2)
    assert_one_line_error(run("train.py", *words, cwd=tmp_path), "argument --distribute")
    words = ("--data", tiny_arrays, "--distribute", "--find-lr")
    assert_one_line_error(run("train.py", *words, cwd=tmp_path), "argument --find-lr")


TWO_DEVICES = """
import runpy, sys
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.skipif(os.environ["KERAS_BACKEND"] != "tensorflow", reason="of TensorFlow")
def test_the_loss_curve_of_two_devices_is_that_of_one(tiny_arrays, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    start = starting_model(tmp_path / "start.h5", tiny_arrays)
    words = ("--data", tiny_arrays, "--init", start, "--recipe", "scratch", "--num-epochs", 2,
             "--refit", "--batch-size", 8, "--precision", "float32", "--patience", 0)  # fmt: skip
    small = str(ROOT / "benchmarks/faulty/small.py")
    two = (*words, "--model", "two.h5", "--distribute")
    command = [sys.executable, "-c", TWO_DEVICES, small, "train.py", *map(str, two)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    assert "tensorflow on cpu:0, cpu:1, float32" in result.stdout
    odd = [*command, "--batch-size", "9", "--restart"]
    result = subprocess.run(odd, capture_output=True, text=True, timeout=300)
    told = "train.py: error: --batch-size 9: 2 devices share it; give a multiple\n"
    assert (result.returncode, result.stderr[-len(told) :]) == (2, told)
    assert (tmp_path / "checkpoints/two/latest.h5").exists()
    assert run_train(*words, "--model", "one.h5") == 0
    with small_network():
        one, other = (model_file.load_info(f"{name}.h5").training for name in ("one", "two"))
    assert one["history"]["loss"][1] != one["history"]["loss"][0]
    for name in ("start", "history", "end"):
        for figure in {"loss", "accuracy", "val_loss", "val_accuracy"} & set(one[name]):
            np.testing.assert_allclose(
                other[name][figure], one[name][figure], 1e-3, 1e-4, err_msg=f"{name} {figure}"
            )
