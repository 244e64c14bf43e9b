"""The formats that people deploy: how an existing library makes each, and its runtime computes it.

Each carries the same metadata, a JSON text, where that format keeps such things.
"""

import importlib
import importlib.util
import json
import logging
import os
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from classifier.export.graph import FEATURES, IMAGE, OUTPUTS
from classifier.processor import cores

if TYPE_CHECKING:
    import keras

# From uint8 pixels, (N, size, size, 3), to the outputs of `graph.whole`.
Run = Callable[[np.ndarray], dict[str, np.ndarray]]
KEY, FILE = "classifier", "classifier.json"


class Format:
    """A format.

    Attributes:
        suffix: of its files or folders.
        folder: the paths of all files in it, where it is a folder.
        needs: packages, as they are imported, that make it; the last one computes it.
        quantizer: the one that makes 8-bit integers of its convolutions; "" where there is none.
    """

    suffix: str
    folder: frozenset[str] = frozenset()
    needs: tuple[str, ...]
    quantizer = ""

    def runtime(self) -> str:
        """Return the name and version of the package that computes it, installed here."""
        name = self.needs[-1]
        return f"{name} {importlib.import_module(name).__version__.split('-')[0]}"

    def packages(self, int8: bool) -> tuple[str, ...]:
        """Return the packages needed for float32 or int8."""
        return (*self.needs, self.quantizer) if int8 else self.needs

    def lacks(self, int8: bool) -> str:
        """Return the first package needed that is not installed, "" if all are."""
        return next((p for p in self.packages(int8) if not importlib.util.find_spec(p)), "")

    def write(
        self,
        model: "keras.Model",
        place: Path,
        metadata: str,
        photographs: np.ndarray | None = None,
    ) -> None:
        """Write a network.

        Args:
            model: of `graph.whole`.
            place: of the file or folder, in a folder that has room for drafts.
            metadata: of `metadata_of`.
            photographs: uint8 (N, size, size, 3), by which the ranges of int8 are chosen; None for
                float32.
        """
        raise NotImplementedError

    def metadata(self, place: Path) -> str:
        """Return the metadata in what was written."""
        raise NotImplementedError

    def load(self, place: Path) -> Run:
        """Return what computes the network in its runtime, on all cores, never in bfloat16."""
        raise NotImplementedError

    def may_stand_at(self, place: Path) -> bool:
        """Return whether it may be written at a place: nothing is there, or an earlier one.

        An earlier folder holds nothing else.
        """
        if not os.path.lexists(place) or (
            self.folder and place.is_dir() and not any(place.iterdir())
        ):
            return True
        if place.is_dir() != bool(self.folder):
            return False
        files = {p.relative_to(place).as_posix() for p in place.rglob("*") if not p.is_dir()}
        try:
            return files <= self.folder and "classes" in json.loads(self.metadata(place))
        except Exception:  # whatever a library makes of another file
            return False


class Keras(Format):
    """Keras' own file: opens on each of its backends, without this program."""

    suffix, needs = ".keras", ("keras",)

    def write(self, model, place, metadata, photographs=None):
        model.save(place)
        _append(place, metadata)

    def metadata(self, place):
        return _appended(place)

    def load(self, place):
        import keras

        model = keras.models.load_model(place, compile=False)

        def run(images):
            return {name: np.asarray(y) for name, y in model.predict_on_batch(images).items()}

        return run


class SavedModel(Format):
    """TensorFlow's folder, for TensorFlow Serving and others."""

    suffix, needs = "_savedmodel", ("tensorflow",)
    EXTRA = "assets.extra"  # TensorFlow's place for what is not its own
    folder = frozenset(
        (
            "saved_model.pb",
            "fingerprint.pb",
            "variables/variables.index",
            "variables/variables.data-00000-of-00001",
            f"{EXTRA}/{FILE}",
        )
    )

    def write(self, model, place, metadata, photographs=None):
        _save(model, place)
        (place / self.EXTRA).mkdir()
        (place / self.EXTRA / FILE).write_text(metadata)

    def metadata(self, place):
        return (place / self.EXTRA / FILE).read_text()

    def load(self, place):
        import tensorflow as tf

        model = tf.saved_model.load(place)

        def run(images):
            found = model.signatures["serving_default"](**{IMAGE: tf.constant(images)})
            return {name: y.numpy() for name, y in found.items()}

        return run


class Onnx(Format):
    """ONNX, for ONNX Runtime and many others."""

    suffix = ".onnx"
    needs = ("tensorflow", "tf2onnx", "onnx", "onnxruntime")
    quantizer = "onnxruntime"

    def write(self, model, place, metadata, photographs=None):
        import onnx

        logging.getLogger("tf2onnx").setLevel(logging.ERROR)
        model.predict_on_batch(np.zeros((1, *model.input_shape[1:]), np.uint8))  # or Keras refuses
        model.export(place, format="onnx", verbose=False)
        if photographs is not None:
            self._quantize(place, photographs)
        network = onnx.load(place)
        for value in (*network.graph.input, *network.graph.output):
            value.type.tensor_type.shape.dim[0].dim_param = "N"
        onnx.helper.set_model_props(network, {KEY: metadata})
        onnx.save(network, place)

    @staticmethod
    def _quantize(place, photographs):
        """Have the features' convolutions computed in int8, in place.

        Activations without a sign are what processors multiply fast: signed ones were slower than
        float32 (103 and 74 ms, with unsigned ones 30, 2 cores of an AMD EPYC). Weights have 7 bits,
        for with 8 processors without VNNI overflow.
        """
        import onnx
        from onnxruntime import quantization
        from onnxruntime.quantization.shape_inference import quant_pre_process

        class Reader(quantization.CalibrationDataReader):
            def __init__(self):
                self.rest = ({IMAGE: photograph[None]} for photograph in photographs)

            def get_next(self):
                return next(self.rest, None)

        draft = place.with_name(f"{place.name}.draft.onnx")
        quant_pre_process(place, draft, skip_symbolic_shape=True)
        nodes = list(onnx.load(draft).graph.node)
        end = [node.op_type for node in nodes].index("GlobalAveragePool")
        quantization.quantize_static(
            draft, place, Reader(), per_channel=True, reduce_range=True,
            activation_type=quantization.QuantType.QUInt8,
            op_types_to_quantize=["Conv", "Add", "MaxPool"],
            nodes_to_quantize=[node.name for node in nodes[:end]],
        )  # fmt: skip

    def metadata(self, place):
        import onnxruntime

        return onnxruntime.InferenceSession(place).get_modelmeta().custom_metadata_map[KEY]

    def load(self, place):
        import onnxruntime

        session = onnxruntime.InferenceSession(place)
        names = [output.name for output in session.get_outputs()]
        return lambda images: dict(zip(names, session.run(names, {IMAGE: images}), strict=True))


class LiteRT(Format):
    """LiteRT, formerly TensorFlow Lite, for telephones and small devices."""

    suffix = ".tflite"
    needs = ("tensorflow", "ai_edge_litert")
    quantizer = "ai_edge_quantizer"

    def write(self, model, place, metadata, photographs=None):
        import tensorflow as tf

        draft = place.with_name(f"{place.name}.draft")
        _save(model, draft)
        place.write_bytes(tf.lite.TFLiteConverter.from_saved_model(str(draft)).convert())
        if photographs is not None:
            self._quantize(place, photographs)
        _append(place, metadata)

    @staticmethod
    def _quantize(place, photographs):
        """Have the features' convolutions computed in int8, in place.

        TensorFlow's own converter has the head in int8 too: probabilities were 15 times as far from
        those in float32.
        """
        from ai_edge_quantizer import qtyping, quantizer

        tool = quantizer.Quantizer(place.read_bytes())
        for name in ("CONV_2D", "ADD", "MAX_POOL_2D", "PAD"):
            operation = qtyping.TFLOperationName[name]
            tool.add_static_config(FEATURES, operation, activation_num_bits=8, weight_num_bits=8)
        each = [{IMAGE: photograph[None]} for photograph in photographs]
        found = tool.calibrate({"serving_default": each}, num_threads=cores())
        tool.quantize(found).export_model(place, overwrite=True)

    def metadata(self, place):
        return _appended(place)

    def load(self, place):
        from ai_edge_litert.interpreter import Interpreter

        runner = Interpreter(str(place), num_threads=cores()).get_signature_runner()
        return lambda images: {name: np.array(y) for name, y in runner(**{IMAGE: images}).items()}


class OpenVino(Format):
    """OpenVINO's intermediate representation, a folder, for processors and Intel's GPUs."""

    NAME = "model.xml"
    suffix, folder = "_openvino", frozenset((NAME, "model.bin"))
    needs = ("tensorflow", "openvino")
    quantizer = "nncf"
    FLOAT32 = {"INFERENCE_PRECISION_HINT": "f32"}  # else bfloat16 where a processor has it

    def write(self, model, place, metadata, photographs=None):
        import openvino

        draft = place.with_name(f"{place.name}.draft.xml")
        model.export(str(draft), format="openvino", verbose=False)
        network = openvino.Core().read_model(draft)
        if photographs is not None:
            network = self._quantized(network, photographs)
        network.set_rt_info(metadata, KEY)
        place.mkdir()
        openvino.save_model(network, place / self.NAME, compress_to_fp16=False)

    @staticmethod
    def _quantized(network, photographs):
        """Return the network with the features' convolutions computed in int8."""
        import nncf

        nncf.set_log_level(logging.ERROR)
        nodes = network.get_ordered_ops()
        pool = next(node for node in nodes if node.get_type_name() == "ReduceMean")
        head = nncf.Subgraph(
            inputs=[pool.get_friendly_name()],
            outputs=[node.get_friendly_name() for node in network.get_results()],
        )
        return nncf.quantize(
            network,
            nncf.Dataset([photograph[None] for photograph in photographs]),
            subset_size=len(photographs),
            ignored_scope=nncf.IgnoredScope(subgraphs=[head]),
        )

    def metadata(self, place):
        import openvino

        return openvino.Core().read_model(place / self.NAME).get_rt_info(KEY).astype(str)

    def load(self, place):
        import openvino

        network = openvino.Core().compile_model(place / self.NAME, "CPU", self.FLOAT32)
        names = [name for output in network.outputs for name in output.names if name in OUTPUTS]

        def run(images):
            found = network(images)
            return {name: found[network.output(name)] for name in names}

        return run


def _save(model, place):
    """Write a SavedModel.

    `model.export` writes each variable twice, once as the model's, once as the endpoint's: 192 MB.
    """
    import keras

    archive = keras.export.ExportArchive()
    pixels = keras.InputSpec("uint8", model.input_shape, name=IMAGE)
    archive.add_endpoint("serve", partial(model.__call__, training=False), [pixels])
    archive.write_out(place, verbose=False)


def _append(place, metadata):
    """Put metadata into a zip, or behind a file of another kind as one."""
    with zipfile.ZipFile(place, "a") as file:
        file.writestr(FILE, metadata)


def _appended(place):
    """Return the metadata that `_append` put there."""
    with zipfile.ZipFile(place) as file:
        return file.read(FILE).decode()


FORMATS = {
    "keras": Keras(),
    "savedmodel": SavedModel(),
    "onnx": Onnx(),
    "litert": LiteRT(),
    "openvino": OpenVino(),
}
