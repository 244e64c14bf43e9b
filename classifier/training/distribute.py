"""Training on many devices: all of one machine, or of many processes on many machines.

Each device has a copy of the network and computes an equal part of every batch. The gradients are
summed over the devices, and BatchNorms use the whole batch, so the result is the same on any number
of devices, up to rounding. The engines are those of Keras: on JAX `keras.distribution`, in one
process or in many; on TensorFlow MirroredStrategy, in one.
"""

import contextlib
import ipaddress
import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from classifier import backend, cli
from classifier.data.batch import Share
from classifier.errors import UserError

if TYPE_CHECKING:
    import keras

    from classifier.training.batches import Batches

HEARTBEAT = 30  # seconds without a word after which a process counts as dead
GRACE = 60  # seconds that JAX waits longer than we do, for it kills the process when it gives up
# Words of errors from what carries messages between processes: Gloo on processors, NCCL on GPUs.
LOST = re.compile(
    r"gloo|nccl|coordination|(closed|reset) by peer|connection refused|heartbeat", re.IGNORECASE
)
# Run in a process of its own: it reads until this one ends, and prints the line unless told not to.
WATCHER = "import sys; sys.stdin.buffer.read() or sys.stderr.write(sys.argv[1])"


@dataclass(frozen=True)
class Launcher:
    """What a program that starts processes tells them, in environment variables.

    Attributes:
        count: variable of how many processes there are.
        index: variable of this one's number.
        address: variables of process 0's host and, unless it ends in it, port.
        name: JAX's own for it, where JAX finds the address in other variables.
        needed: the variables that JAX needs for that.
    """

    count: str
    index: str
    address: tuple[str, ...] = ()
    name: str = ""
    needed: tuple[str, ...] = ()


LAUNCHERS = (
    # Kubeflow Trainer, and any Kubernetes Job that sets them
    Launcher("JAX_NUM_PROCESSES", "JAX_PROCESS_ID", ("JAX_COORDINATOR_ADDRESS",)),
    # Kubeflow's JAXJob
    Launcher("NUM_PROCESSES", "PROCESS_ID", ("COORDINATOR_ADDRESS", "COORDINATOR_PORT")),
    Launcher(
        "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK",
        name="ompi", needed=("OMPI_MCA_orte_hnp_uri", "OMPI_COMM_WORLD_LOCAL_RANK"),
    ),
    Launcher(
        "SLURM_NTASKS", "SLURM_PROCID",
        name="slurm", needed=("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_LOCALID"),
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Member:
    """Which process of how many this one is.

    Attributes:
        index: from 0; process 0 alone writes files.
        count: of the processes.
        coordinator: HOST:PORT at which process 0 listens; "" where JAX finds it.
        launcher: JAX's name of what started them, where it finds something; "" where nothing.
    """

    index: int = 0
    count: int = 1
    coordinator: str = ""
    launcher: str = ""

    @property
    def first(self) -> bool:
        """Whether it is process 0."""
        return self.index == 0

    def __str__(self):
        return f"process {self.index} of {self.count}"


def member_of(
    coordinator: str | None,
    count: int | None,
    index: int | None,
    variables: Mapping[str, str] = os.environ,
) -> Member:
    """Return which process this is, by the flags and, for what they leave out, by the launcher.

    Args:
        coordinator: of --coordinator, HOST:PORT, or None.
        count: of --num-processes, or None.
        index: of --process-id, or None.
        variables: environment variables.

    Raises:
        UserError: not all is told, or it cannot be.
    """
    launcher = next((one for one in LAUNCHERS if _started(one, variables)), None)
    name = ""
    if launcher is not None:
        count = _number(variables, launcher.count) if count is None else count
        index = _number(variables, launcher.index) if index is None else index
        told = [variables[part] for part in launcher.address if part in variables]
        if coordinator is None and told:
            coordinator = ":".join(told)
        if all(part in variables for part in launcher.needed):
            name = launcher.name
    if count is None and index is None and coordinator is None:
        return Member()
    if count == 1 and index in (None, 0):
        return Member()
    if count is None or index is None or not (coordinator or name):
        lacking = [
            flag
            for flag, value in {
                "--coordinator": coordinator or name or None,
                "--num-processes": count,
                "--process-id": index,
            }.items()
            if value is None
        ]
        raise UserError(f"{', '.join(lacking)}: needed too, for the processes to find each other")
    if not 0 <= index < count:
        raise UserError(f"--process-id: {index} is none of 0 to {count - 1} (--num-processes)")
    if coordinator:
        host, _, port = coordinator.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
            raise UserError(f"--coordinator: {cli.printable(coordinator)} is not HOST:PORT")
    return Member(index, count, coordinator or "", name)


def _started(launcher, variables):
    known = launcher.count in variables and launcher.index in variables
    # SLURM sets those for a script too, which srun has not started many times.
    return known and (launcher.name != "slurm" or all(v in variables for v in launcher.needed))


def _number(variables, name):
    if not variables[name].isdecimal():
        raise UserError(f"{name}: {cli.printable(variables[name])} is not a whole number")
    return int(variables[name])


class Devices:
    """What training is computed on: one device, of this process alone.

    Attributes:
        count: of the devices.
        processes: how many have them.
        first: whether this process is the one that writes files.
        share: this process' of each batch; None where it has all of it.
    """

    count, processes, first, share = 1, 1, True, None

    @contextlib.contextmanager
    def scope(self) -> Iterator[None]:
        """Have what is built and trained in the block distributed."""
        yield

    @contextlib.contextmanager
    def apart(self) -> Iterator[None]:
        """Have what is built in the block, within `scope`, on one device, where Keras can."""
        yield

    def whole(self, batch_size: int) -> int:
        """Return the largest multiple of the devices' count up to a batch size; at least one."""
        return max(1, batch_size // self.count) * self.count

    def seen(self, batch_size: int) -> int:
        """Return how many images of a batch a compiled step sees."""
        return batch_size

    def told(self, value: Any) -> Any:
        """Return process 0's value, plain JSON, in all processes."""
        return value

    def told_array(self, value: np.ndarray) -> np.ndarray:
        """Return process 0's array in all processes; each gives one of its shape and type."""
        return value

    def compute(self, model: "keras.Model") -> Callable[[np.ndarray], np.ndarray]:
        """Return what computes a model's outputs of a batch, given this process' share of it."""
        return model.predict_on_batch

    def outputs(self, model: "keras.Model", batches: "Batches") -> np.ndarray:
        """Return a model's outputs of all images in order, (N, ...)."""
        return model.predict(batches, verbose=0)[: batches.count]

    def stop(self) -> bool:
        """Return whether to stop after this step, because of a signal; to be asked after each.

        Several processes all stop after the same step, the one after that of the signal.
        """
        return cli.interrupted()

    def interrupted(self) -> bool:
        """Return whether a signal came, to any of the processes, each of which asks."""
        return cli.interrupted()


ONE_DEVICE = Devices()


class Mirrored(Devices):
    """All GPUs of this machine, on TensorFlow."""

    share = Share(0, 1)  # for no device is left without an image in a last batch

    def __init__(self):
        import keras
        import tensorflow as tf

        self.strategy = tf.distribute.MirroredStrategy(keras.distribution.list_devices())
        self.count = self.strategy.num_replicas_in_sync

    @contextlib.contextmanager
    def scope(self):
        with self.strategy.scope():
            yield

    def seen(self, batch_size):
        return batch_size // self.count

    def compute(self, model):
        return lambda images: model.predict(images, batch_size=len(images), verbose=0)


class DataParallel(Devices):
    """All devices of this process, on JAX."""

    def __init__(self, member: Member = Member()):
        import jax
        import keras

        self.member, self.first = member, member.first
        self.count, self.processes = jax.device_count(), member.count
        self.share = Share(member.index, member.count)
        self.distribution = keras.distribution.DataParallel(auto_shard_dataset=False)
        mesh = self.distribution.device_mesh.backend_mesh
        self.parts = jax.sharding.NamedSharding(
            mesh, jax.sharding.PartitionSpec(self.distribution.batch_dim_name)
        )
        self.copies = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
        self.forward = {}  # what is compiled for each model

    @contextlib.contextmanager
    def scope(self):
        with self.distribution.scope():
            yield

    @contextlib.contextmanager
    def apart(self):
        import keras

        keras.distribution.set_distribution(None)
        try:
            yield
        finally:
            keras.distribution.set_distribution(self.distribution)

    def compute(self, model):
        import jax

        def outputs(trained, others, images):
            return model.stateless_call(trained, others, images, training=False)[0]

        if model not in self.forward:
            self.forward[model] = jax.jit(outputs, out_shardings=self.copies)

        def call(images):
            images = jax.make_array_from_process_local_data(self.parts, images)
            kinds = (model.trainable_variables, model.non_trainable_variables)
            values = [[variable.value for variable in kind] for kind in kinds]
            return np.asarray(self.forward[model](*values, images))

        return call

    def outputs(self, model, batches):
        call = self.compute(model)
        found = [call(batches[index][0]) for index in range(len(batches))]
        return np.concatenate(found)[: batches.count]


class Processes(DataParallel):
    """All devices of several processes, on JAX; each has gone through `_meet`.

    Args:
        member: of them.
        settled: called once this process no longer needs the others.
    """

    def __init__(self, member: Member, settled: Callable[[], None]):
        super().__init__(member)
        import jax
        import jax.numpy as jnp

        self.settled = settled
        self.any = jax.jit(jnp.any, out_shardings=self.copies)
        self.asked = None  # of the last step
        self.stopping = False  # whether all processes know that they are to stop

    @contextlib.contextmanager
    def scope(self):
        try:
            with super().scope(), cli.interrupts_wait(lambda: False):
                yield
        except BaseException as error:
            if self.stopping:
                self._part()
            elif not isinstance(error, (UserError, OSError)) and LOST.search(str(error)):
                raise UserError(gone(self.member)) from error
            raise
        self._part()

    def _part(self):
        import jax

        with contextlib.suppress(Exception):  # of others: this one's training is done
            jax.distributed.shutdown()
        self.settled()

    def told(self, value):
        text = json.dumps(value).encode() if self.first else b""
        size = int(self.told_array(np.uint32(len(text))))
        room = -(-size // 4096) * 4096  # of few sizes, for each is compiled
        given = np.zeros(room, np.uint8)
        given[: len(text)] = np.frombuffer(text, np.uint8)
        return json.loads(self.told_array(given)[:size].tobytes())

    def told_array(self, value):
        from jax.experimental import multihost_utils

        return np.asarray(multihost_utils.broadcast_one_to_all(value))

    def stop(self):
        before, self.asked = self.asked, self._any(cli.interrupted())
        # To read the answer of this step would be to wait for it.
        self.stopping = before is not None and bool(before)
        return self.stopping

    def interrupted(self):
        self.stopping = bool(self._any(cli.interrupted()))
        return self.stopping

    def _any(self, value):
        """Return whether it is so in any of the processes, as a jax.Array yet to be computed."""
        import jax

        values = np.full(jax.local_device_count(), value)
        return self.any(jax.make_array_from_process_local_data(self.parts, values))


def gone(member: Member) -> str:
    """Return the line for a process that has lost the others."""
    return (
        f"{member}: another one has ended, or cannot be reached: its own output may say why; start "
        "all of them again, with --resume, to go on from the last checkpoint"
    )


def join(member: Member, timeout: int) -> Devices:
    """Start Keras, and return all devices of this process or, where it is one of many, of all.

    Args:
        member: of `member_of`.
        timeout: most seconds to wait for the other processes.

    Raises:
        UserError: the backend cannot, or not all processes have come.
    """
    name = backend.chosen()
    if name == "torch":
        raise UserError(
            "--distribute: Keras distributes on JAX and TensorFlow, not on PyTorch: "
            f"KERAS_BACKEND=jax, after pip install -r {backend.REQUIREMENTS['jax']}"
        )
    if name == "tensorflow" and member.count > 1:
        raise UserError(
            "--distribute: several processes need JAX, for TensorFlow's "
            "MultiWorkerMirroredStrategy fails in Keras' fit (keras-team/keras#20585): "
            f"KERAS_BACKEND=jax, after pip install -r {backend.REQUIREMENTS['jax']}"
        )
    if member.count == 1:
        keras = backend.start_keras()
        if len(keras.distribution.list_devices()) == 1:
            return ONE_DEVICE
        return Mirrored() if name == "tensorflow" else DataParallel()
    settled = _watched(member)
    backend.start_keras(before_devices=lambda: _meet(member, timeout))
    return Processes(member, settled)


def _watched(member):
    """Have a line told if this process ends without a word; return what takes that back.

    XLA ends a process where another has ended, by abort, and the system one that takes too much
    memory. What XLA says on the terminal then is many lines, which are left out.
    """
    script = Path(sys.argv[0]).name
    line = (
        f"{script}: error: {member}: ended at once: killed, or by JAX where another one has ended "
        "or cannot be reached (TF_CPP_MIN_LOG_LEVEL=0 shows its messages); start all of them "
        "again, with --resume, to go on from the last checkpoint\n"
    )
    cli.part_from_compiled_code(silent=os.environ.get("TF_CPP_MIN_LOG_LEVEL") != "0")
    watcher = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", WATCHER, line],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=sys.stderr, start_new_session=True,
    )  # fmt: skip

    def last_word():
        with contextlib.suppress(OSError, ValueError):
            watcher.stdin.write(b"!")
            watcher.stdin.close()
            watcher.wait()

    def settled():
        cli.end_as_usual()
        last_word()

    cli.end_at_once(last_word)  # for Python would wait for the others, who may wait for this one
    with contextlib.suppress(ImportError, OSError):  # no image of all its memory then
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    if not member.first:
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 - to the end
    return settled


def _meet(member, timeout):
    """Wait for the other processes."""
    import jax
    from jax.experimental import multihost_utils

    where = f"--coordinator {member.coordinator}" if member.coordinator else "--distribute"
    options = {}
    if member.coordinator:
        host, _, port = member.coordinator.rpartition(":")
        if member.first:
            _check_port(where, int(port))
        if _is_loopback(host):
            options["coordinator_bind_address"] = member.coordinator
    if "heartbeat_timeout_seconds" in signature(jax.distributed.initialize).parameters:
        options["heartbeat_timeout_seconds"] = HEARTBEAT  # JAX 0.6 has 100 s, and no say in it
    failed = []

    def connect():
        try:
            jax.distributed.initialize(
                member.coordinator or None,
                member.count,
                member.index,
                cluster_detection_method=member.launcher or "deactivate",
                initialization_timeout=timeout + GRACE,
                **options,
            )
        except Exception as error:
            failed.append(error)

    with contextlib.suppress(AttributeError):
        jax.config.update("jax_enable_preemption_service", False)  # it would take SIGTERM
    # In a thread, for a signal is heard by Python's own waiting alone.
    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    cli.raise_if_interrupted()
    thread.join(timeout)
    if thread.is_alive():
        others = "the others have" if member.first else "process 0, or others, have"
        raise UserError(
            f"{where}: {member}: {others} not come in {timeout} seconds: start them, see that "
            "this machine reaches that one, or give --coordinator-timeout"
        )
    cli.interrupt_on_sigterm()  # where JAX has taken it all the same
    try:
        if failed:
            raise failed[0]
        if jax.device_count() != member.count * jax.local_device_count():
            raise UserError(
                f"--distribute: {member} has {jax.local_device_count()} of {jax.device_count()} "
                "devices; give each process as many (CUDA_VISIBLE_DEVICES)"
            )
        multihost_utils.sync_global_devices("met")
    except UserError:
        raise
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"{where}: {member}: {cli.printable(reason)}") from error


def _check_port(where, port):
    """Raise UserError where another program listens already, on which JAX would crash."""
    try:
        socket.create_server(("", port)).close()
    except OSError as error:
        raise UserError(f"{where}: {os.strerror(error.errno)}; give another port") from error


def _is_loopback(host):
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
