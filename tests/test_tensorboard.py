"""Event files, read by TensorBoard itself; test_whole_way.py looks at what a run's have."""

import errno
import json

import numpy as np
import pytest
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer

from classifier.training import tensorboard
from classifier.training.tensorboard import Events


def read(folder):
    multiplexer = EventMultiplexer().AddRunsFromDirectory(str(folder))
    return multiplexer.Reload()


def test_epochs_that_a_resumed_run_trains_again_stand_there_once(tmp_path):
    for process, (first, last) in enumerate([(0, 4), (2, 6)]):
        events = Events(tmp_path, first)
        events.path = events.path.with_name(f"{events.path.name}.{process}")
        for epoch in range(first, last):
            events.scalar("epoch_loss", 10 * process + epoch, epoch)
    points = read(tmp_path).Tensors(".", "epoch_loss")
    assert [point.step for point in points] == [0, 1, 2, 3, 4, 5]
    assert [point.tensor_proto.float_val[0] for point in points] == [0, 1, 12, 13, 14, 15]


def test_images_and_their_description_are_read(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (3, 4, 5, 3)).astype(np.uint8)
    Events(tmp_path).images("inputs", images, 7, "cat, owl")
    found = read(tmp_path)
    assert found.SummaryMetadata(".", "inputs").summary_description == "cat, owl"
    (point,) = found.Tensors(".", "inputs")
    width, height, *pictures = point.tensor_proto.string_val
    assert (point.step, width, height) == (7, b"5", b"4")
    assert len(pictures) == 3
    assert all(picture.startswith(b"\x89PNG") for picture in pictures)


def test_the_graph_has_the_models_layers(tmp_path, network):
    Events(tmp_path).graph(network)
    (point,) = read(tmp_path).Tensors(".", "keras")
    layers = json.loads(point.tensor_proto.string_val[0])["config"]["layers"]
    assert [layer["config"]["name"] for layer in layers] == [layer.name for layer in network.layers]


def test_a_full_disk_is_told_with_the_files_name(tmp_path, monkeypatch):
    def fails(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    events = Events(tmp_path / "new")
    monkeypatch.setattr(tensorboard.RecordWriter, "write", fails)
    with pytest.raises(OSError, match=r"No space left on device: '.*new/events\.out\.tfevents"):
        events.scalar("epoch_loss", 1.0, 0)
