"""Checkpoints: the whole state of a training run in one HDF5 file, to go on from."""

import json

import h5py

from classifier.errors import UserError
from classifier.files import atomic_write, reserve
from classifier.hdf5 import dataset, open_hdf5


def save(path, model, state):
    """Write the model's and optimizer's variables (random seeds included) and `state` (JSON)."""
    groups = _variables(model)
    size = sum(variable.numpy().nbytes for group in groups.values() for variable in group)
    with atomic_write(path) as aside, h5py.File(aside, "w") as file:
        file.flush()
        reserve(aside, size + 1_000_000)
        file.attrs["state"] = json.dumps(state)
        for kind, variables in groups.items():
            for number, variable in enumerate(variables):
                file[f"{kind}/{number}"] = variable.numpy()


def load_state(path):
    """Read the `state` of a checkpoint.

    Raises:
        UserError: missing, damaged or no checkpoint.
    """
    with open_hdf5(path, "checkpoint") as file:
        try:
            return json.loads(file.attrs["state"])
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{path}: not a checkpoint of train.py; use --restart") from error


def restore(path, model):
    """Put a checkpoint's variables into a compiled model.

    Raises:
        UserError: they do not fit the model.
    """
    with open_hdf5(path, "checkpoint") as file:
        for kind, variables in _variables(model).items():
            for number, variable in enumerate(variables):
                part = dataset(file, f"{kind}/{number}")
                if part is None or part.shape != tuple(variable.shape):
                    raise UserError(f"{path}: does not fit this network; use --restart")
                variable.assign(part[()])


def _variables(model):
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    return {"model": model.variables, "optimizer": model.optimizer.variables}
