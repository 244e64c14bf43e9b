"""Photographs: how they are found, and the one way they are decoded, in training and after."""

import contextlib
import errno
import io
import os
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image

# Only decoders that read pixels and nothing else: no PostScript, no plug-in found at run time.
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM")
# What one photograph may cost: with these limits no file of any format took more than 600 MB.
MAX_BYTES = 128 << 20  # of the file; libtiff reads it whole
MAX_PIXELS = 50_000_000  # above most cameras
MAX_PIXELS_OF = {"TIFF": 25_000_000, "WEBP": 25_000_000}  # their decoders take up to 20 bytes each
MAX_SIDE = 65_535  # JPEG's own limit; the weights of a resize grow with the longer side
# Larger ones are halved before anything else is done with them; smaller ones keep every pixel.
HALVE_ABOVE = 16_000_000  # pixels
BAND = 4_000_000  # pixels converted at a time where the picture is halved
# A progressive photograph has about 10 scans; each costs a pass over all pixels.
MAX_SCANS, MAX_SEGMENTS = 100, 10_000

# A JPEG marker that opens a segment or ends the picture: not a stuffed byte, not a restart.
_MARKER = re.compile(rb"\xff([\x02-\xcf\xd8-\xfe])")
_START, _END, _SCAN = 0xD8, 0xD9, 0xDA

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # what turns a picture upright, by its EXIF orientation


class ImageError(Exception):  # noqa: N818 - a name for what it is, not for being an error
    """A file that cannot be used as a photograph; its text says why, in a few words."""


def decode(file: str | os.PathLike | BinaryIO, size: int) -> np.ndarray:
    """Decode a photograph into the pixels the network sees: `square(read_rgb(file), size)`."""
    return square(read_rgb(file), size)


def square(rgb: Image.Image, size: int) -> np.ndarray:
    """Resize a picture to a square, the whole of it, aspect ratio not kept, as the original does.

    Args:
        rgb: PIL image, RGB.
        size: side of the square, pixels.

    Returns:
        uint8 array (size, size, 3), RGB; bicubic with antialiasing.
    """
    return np.asarray(rgb.resize((size, size), Image.Resampling.BICUBIC))


def scaled(rgb: Image.Image, side: int) -> Image.Image:
    """Resize a picture, to be looked at, so that its longer side has `side` pixels."""
    scale = side / max(rgb.size)
    size = tuple(max(1, round(length * scale)) for length in rgb.size)
    return rgb.resize(size, Image.Resampling.LANCZOS)


def read_rgb(file: str | os.PathLike | BinaryIO) -> Image.Image:
    """Read a photograph.

    Rotated as its EXIF orientation says, first frame if animated, transparent parts over white,
    16 bits scaled to 8, floats as `_float_scale` says, any colour space to RGB; at half its size
    if it has more than HALVE_ABOVE pixels.

    Args:
        file: path, or a binary file object that can seek.

    Returns:
        PIL image, RGB.

    Raises:
        ImageError: the file is at fault: none there, not an image, truncated, empty, or over one
            of the limits above.
        OSError, MemoryError: the system is at fault: the file could not be opened or read, or not
            decoded for want of memory. It says nothing about the photograph.
    """
    path = file if isinstance(file, (str, os.PathLike)) else None
    with contextlib.ExitStack() as stack:
        reader = _Reader(file if path is None else stack.enter_context(_open(path)))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of odd metadata, which does not matter here
                rgb = _read(reader)
        except Exception as error:  # Pillow's decoders raise many kinds for damaged files
            error = reader.error or error
            if isinstance(error, MemoryError) or "out of memory" in str(error):  # zlib's, say
                raise MemoryError(f"{path or 'image'}: not enough memory to decode it") from error
            if isinstance(error, OSError) and error.errno is not None:
                raise _with_name(error, path) from None
            raise _image_error(error) from error
        if reader.error:  # a decoder went on without what it could not read
            raise _with_name(reader.error, path)
        return rgb


class _Reader:
    """A file as Pillow reads it; it keeps the system's error, which a decoder may hide.

    It has no `fileno`, so that nothing is read past it, by libtiff or as a memory map.
    """

    def __init__(self, file):
        self._file = file
        self.error = None

    def read(self, size=-1):
        # A damaged file can ask for exabytes; there are never more than MAX_BYTES to be had.
        return self._keeping(self._file.read, min(size, MAX_BYTES))

    def seek(self, offset, whence=io.SEEK_SET):
        return self._keeping(self._file.seek, offset, whence)

    def tell(self):
        return self._keeping(self._file.tell)

    def _keeping(self, call, *args):
        try:
            return call(*args)
        except (OSError, MemoryError) as error:
            # EINVAL: an offset below zero, which is the damaged file's fault.
            if isinstance(error, MemoryError) or error.errno not in (None, errno.EINVAL):
                self.error = self.error or error
            raise


def _open(path):
    try:
        if Path(path).exists() and not Path(path).is_file():
            raise ImageError("not a file")  # a pipe would be waited for
        return Path(path).open("rb")
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:  # ValueError: a NUL
        raise ImageError("no such file") from error


def _with_name(error, path):
    if path is not None and error.filename is None:
        error.filename = str(path)
    return error


def _image_error(error):
    if isinstance(error, ImageError):
        return error
    if isinstance(error, Image.DecompressionBombError):
        return ImageError("too many pixels")
    if isinstance(error, Image.UnidentifiedImageError):
        return ImageError("not an image")
    return ImageError(str(error).splitlines()[0] if str(error) else type(error).__name__)


def _read(file):
    length = file.seek(0, io.SEEK_END)
    if not length:
        raise ImageError("empty file")
    if length > MAX_BYTES:
        raise ImageError(f"{length:,} bytes, over {MAX_BYTES:,}")
    _check_jpeg(file)
    with Image.open(file, formats=FORMATS) as image:
        width, height = image.size
        limit = MAX_PIXELS_OF.get(image.format, MAX_PIXELS)
        if width * height > limit:
            raise ImageError(f"{width}x{height} pixels, over {limit:,}")
        if max(width, height) > MAX_SIDE:
            raise ImageError(f"{width}x{height} pixels, a side over {MAX_SIDE:,}")
        if width * height > HALVE_ABOVE:
            image.draft(None, (max(1, width // 2), max(1, height // 2)))  # a JPEG, as it decodes
        image.load()
        way = _UPRIGHT.get(_orientation(image))
        scale = _float_scale(image)
        if image.width * image.height > HALVE_ABOVE:
            rgb = _halved(image, scale)
        else:
            rgb = _to_rgb(image, scale)
    return rgb if way is None else rgb.transpose(way)


def _check_jpeg(file):
    """Raise ImageError if a JPEG has far more scans or segments than any photograph.

    The segments are stepped over by their lengths, so that a thumbnail within one, a JPEG itself,
    does not count.
    """
    file.seek(0)
    if file.read(2) != b"\xff\xd8":
        return
    data = file.read()
    scans = segments = place = 0
    while segments <= MAX_SEGMENTS and (found := _MARKER.search(data, place)):
        place, marker = found.end(), found[1][0]
        if marker == _END:
            break
        if marker != _START:
            segments += 1
            scans += marker == _SCAN
            place += int.from_bytes(data[place : place + 2], "big")
    if scans > MAX_SCANS:
        raise ImageError(f"{scans} scans, over {MAX_SCANS}")
    if segments > MAX_SEGMENTS:
        raise ImageError(f"over {MAX_SEGMENTS:,} segments")


def _orientation(image):
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except MemoryError:
        raise
    except Exception:  # damaged metadata, of as many kinds; the pixels are there
        return None
    return orientation if isinstance(orientation, int) else None


def _halved(image, scale):
    half = Image.new("RGB", ((image.width + 1) // 2, (image.height + 1) // 2))
    for top, band in _bands(image):
        half.paste(_to_rgb(band, scale).reduce(2), (0, top // 2))
    return half


def _bands(image) -> Iterator[tuple[int, Image.Image]]:
    """Cut a picture into bands of at most BAND pixels: (first row, an even number; band)."""
    rows = max(2, BAND // image.width // 2 * 2)
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


def _float_scale(image):
    """Return what a float picture's values are multiplied by for 0..255; 1 for other pictures.

    Nothing in the file says what they span: 0..1 if none is above 2 (a resize can overshoot 1 a
    little, and a picture of 0..255 that dark shows nothing), else 0..255, cut off there.
    """
    if image.mode != "F":
        return 1
    values = (np.asarray(band) for _, band in _bands(image))
    return 255 if max(_finite(part).max() for part in values) <= 2 else 1


def _finite(values):
    return np.nan_to_num(values, nan=0, posinf=0, neginf=0)


def _to_rgb(image, scale):
    if image.mode == "F":
        values = np.nan_to_num(np.asarray(image), nan=0)  # infinity: the largest float
        return _from_grey(values * np.float64(scale))
    if image.mode in ("I;16", "I;16B", "I;16L", "I;16N", "I"):
        # Pillow's own conversion clips 16-bit grey at 255 instead of scaling it.
        return _from_grey(np.asarray(image).astype(np.float64) / 257)
    if image.mode == "La":  # Pillow converts it to this one alone
        image = image.convert("LA")
    if image.mode in ("RGBA", "LA", "PA", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def _from_grey(values):
    return Image.fromarray(values.clip(0, 255).round().astype(np.uint8)).convert("RGB")


def files_below(folder: Path) -> list[Path]:
    """Return the files below `folder`, sorted; names that start with '.' do not count.

    Raises:
        OSError: a folder that is there cannot be read.
    """

    def fail(error):
        if not isinstance(error, FileNotFoundError):
            raise error

    found = []
    for root, folders, names in os.walk(folder, onerror=fail, followlinks=True):
        folders[:] = [
            name for name in folders if not name.startswith(".") and not _circle(Path(root, name))
        ]
        found += [Path(root, name) for name in names if not name.startswith(".")]
    return sorted(found)


def _circle(folder):
    """Return whether a folder is a link to one that it lies in."""
    return folder.is_symlink() and folder.parent.resolve().is_relative_to(folder.resolve())
