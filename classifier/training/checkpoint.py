"""Checkpoints: the whole state of a training run in one HDF5 file, to go on from."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from classifier.errors import UserError
from classifier.files import atomic_write, reserve
from classifier.hdf5 import DAMAGE, dataset, open_hdf5, read, read_json, write_json
from classifier.training.distribute import ONE_DEVICE, Devices

if TYPE_CHECKING:
    import keras

VERSION = 9


def save(path: Path, model: "keras.Model", run: dict[str, Any]) -> None:
    """Write a compiled model's, its optimizer's and its metrics' variables, and the run.

    The random seeds of Dropout are among the model's.

    Args:
        path: where the checkpoint goes.
        model: compiled keras.Model.
        run: plain JSON values.
    """
    groups = _variables(model)
    size = sum(variable.numpy().nbytes for group in groups.values() for variable in group)
    with atomic_write(path) as temporary, h5py.File(temporary, "w") as file:
        write_json(file, "run", {"version": VERSION, **run})
        file.flush()
        reserve(temporary, temporary.stat().st_size + size + 1_000_000)
        for kind, variables in groups.items():
            for number, variable in enumerate(variables):
                file[f"{kind}/{number}"] = variable.numpy()


def load_run(path: Path) -> dict[str, Any]:
    """Read the run that `save` was given.

    Raises:
        UserError: missing, damaged, of another version or no checkpoint.
    """
    with open_hdf5(path, "checkpoint") as file:
        try:
            kept = read_json(file, "run")
            version = kept.pop("version")
        except (AttributeError, TypeError, *DAMAGE) as error:
            raise UserError(f"{path}: not a checkpoint of train.py; use --restart") from error
    if version != VERSION:
        raise UserError(f"{path}: a checkpoint of another version; use --restart")
    return kept


def restore(path: Path, model: "keras.Model", devices: Devices = ONE_DEVICE) -> None:
    """Put a checkpoint's variables, which the first process has, into a compiled model.

    Raises:
        UserError: they are damaged or do not fit the model.
    """
    groups = _variables(model)
    if not devices.first:
        for variable in (variable for group in groups.values() for variable in group):
            variable.assign(devices.told_array(np.zeros(variable.shape, variable.dtype)))
        return
    with open_hdf5(path, "checkpoint") as file:
        for kind, variables in groups.items():
            for number, variable in enumerate(variables):
                part = dataset(file, f"{kind}/{number}")
                wanted = tuple(variable.shape), variable.dtype
                if part is None or (part.shape, part.dtype.name) != wanted:
                    raise UserError(f"{path}: does not fit this network; use --restart")
                try:
                    values = read(file, part)
                except DAMAGE as error:
                    raise UserError(f"{path}: damaged; use --restart") from error
                variable.assign(devices.told_array(values))


def _variables(model):
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    return {
        "model": model.variables,
        "optimizer": model.optimizer.variables,
        "metrics": model.metrics_variables,
    }
