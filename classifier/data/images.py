"""Photographs: how they are found, and the one way they are decoded, in training and after."""

import contextlib
import ctypes
import errno
import io
import logging
import math
import os
import re
import struct
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image

from classifier.cli import give_back_memory
from classifier.processor import cores
from classifier.workers import Room

# Only decoders that read pixels and nothing else: no PostScript, no plug-in found at run time.
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM")
# What one photograph may cost: with these limits no file of any format took more than 300 MB, 5 s.
MAX_BYTES = 128 << 20  # of the file; libtiff reads it whole
# Above most cameras, whose JPEGs have one scan and are halved as they are decoded. All other files
# are decoded whole: JPEGs of many scans take up to 8 bytes a pixel, WebP 16, TIFF 20.
MAX_PIXELS = 50_000_000
MAX_PIXELS_WHOLE = 25_000_000
MAX_PIXELS_WEBP = 16_000_000
MAX_SIDE = 65_535  # JPEG's own limit; the weights of a resize grow with the longer side
# Larger ones are halved before anything else is done with them; smaller ones keep every pixel.
HALVE_ABOVE = 16_000_000  # pixels
BAND = 1_000_000  # pixels converted at a time where the picture is halved
# A progressive photograph has about 10 scans; each costs a pass over all pixels.
MAX_SCANS, MAX_SEGMENTS = 50, 10_000
MAX_EXIF = 100  # segments of a JPEG; Pillow joins them, each time copying what it has
# Reads of a file: Pillow's Python reads a chunk, a tag, a comment, or a pixel of rare kinds each
# time. A 128 MB PNG with chunks of 8 kB takes 64,000.
MAX_READS = 700_000
MAX_NUMBERS = 1 << 20  # bytes of a TIFF's tags that are made Python numbers; 65,535 strips: 0.5 MB
MAX_STRIPS = 70_000
MAX_WORDS = 8 << 20  # bytes of a PPM in words
MAX_COMMENTS = 10_000  # in it; they take time that grows with the square of their number
MAX_METADATA = 1 << 20  # bytes of EXIF that are searched for the orientation

# Memory that the pictures being decoded in the threads of a process share, bytes.
_room = Room(128_000_000 * max(2, cores()))
A_PIXEL, A_JPEG_PIXEL = 20, 10  # bytes that decoding it takes; of a JPEG of one scan
LONG = 32 << 20  # bytes of a file that is decoded alone

# Both have a word for many damaged files, on standard error: here what is told is an ImageError.
logging.getLogger("PIL").addHandler(logging.NullHandler())
with contextlib.suppress(OSError, AttributeError):
    ctypes.CDLL(Image.core.__file__).TIFFSetErrorHandler(None)  # of the libtiff within Pillow

# A JPEG marker that opens a segment or ends the picture: not a stuffed byte, not a restart.
_MARKER = re.compile(rb"\xff([\x02-\xcf\xd8-\xfe])")
_START, _END, _SCAN = 0xD8, 0xD9, 0xDA
_WITHIN = (0x8769, 0x8825, 0xA005)  # a TIFF's tags that lead to other directories: EXIF, GPS, ...

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
        self._reads = 0

    def read(self, size=-1):
        self._reads += 1
        if self._reads > MAX_READS:
            self.error = self.error or ImageError(f"made of over {MAX_READS:,} parts")
            raise self.error
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
    if path is not None and isinstance(error, OSError) and error.filename is None:
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
    with contextlib.ExitStack() as stack:
        image = _opened(file, length, stack)
        image.load()
        way = _UPRIGHT.get(_orientation(image))
        scale = _float_scale(image)
        if image.width * image.height > HALVE_ABOVE:
            rgb = _halved(image, scale)
        else:
            rgb = _to_rgb(image, scale)
    return rgb if way is None else rgb.transpose(way)


def _opened(file, length, stack):
    """Open a picture within the limits, once there is memory to decode it; `stack` closes it."""

    def wait_for(size):
        stack.enter_context(_room.taken(size))
        if size > _room.most / 2:
            give_back_memory()

    before = _room.most if length > LONG else A_PIXEL * _webp_pixels(file)
    if before:  # WebP takes its memory as it is opened
        wait_for(before)
    scans = _check_jpeg(file)
    _check_tiff(file)
    _check_words(file, length)
    image = stack.enter_context(Image.open(file, formats=FORMATS))
    one_scan = image.format in ("JPEG", "MPO") and _is_one_scan(image, *scans)
    _check_size(image, one_scan)
    size = A_PIXEL * image.width * image.height
    if image.width * image.height > HALVE_ABOVE:  # a JPEG is halved as it is decoded
        image.draft(None, (max(1, image.width // 2), max(1, image.height // 2)))
    if one_scan:
        size = A_JPEG_PIXEL * image.width * image.height
    if not before:
        wait_for(size)
    return image


def _webp_pixels(file):
    """Return the number of pixels that a WebP says it has; of other files 0."""
    file.seek(0)
    head = file.read(30).ljust(30, b"\0")
    if head[:4] != b"RIFF":
        return 0
    kind = head[12:16]
    if kind == b"VP8X":
        sides = head[24:27], head[27:30]
        return math.prod(1 + int.from_bytes(side, "little") for side in sides)
    if kind == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        return (1 + bits % 2**14) * (1 + (bits >> 14) % 2**14)
    return math.prod(int.from_bytes(side, "little") % 2**14 for side in (head[26:28], head[28:30]))


def _is_one_scan(image, scans, components):
    """Return whether a JPEG has one scan alone, of all its components: it takes little memory."""
    return scans == 1 and components == image.layers and "progressive" not in image.info


def _check_size(image, one_scan):
    width, height = image.size
    limit = MAX_PIXELS_WEBP if image.format == "WEBP" else MAX_PIXELS_WHOLE
    limit = MAX_PIXELS if one_scan else limit
    if width * height > limit:
        raise ImageError(f"{width}x{height} pixels, over {limit:,}")
    if max(width, height) > MAX_SIDE:
        raise ImageError(f"{width}x{height} pixels, a side over {MAX_SIDE:,}")
    if len(image.tile) > MAX_STRIPS:
        raise ImageError(f"{len(image.tile):,} strips, over {MAX_STRIPS:,}")


def _check_words(file, length):
    """Raise ImageError if a PPM in words is long."""
    file.seek(0)
    if file.read(2) not in (b"P1", b"P2", b"P3"):
        return
    if length > MAX_WORDS:
        raise ImageError(f"{length:,} bytes in words, over {MAX_WORDS:,}")
    if file.read().count(b"#") > MAX_COMMENTS:
        raise ImageError(f"over {MAX_COMMENTS:,} comments")


def _check_tiff(file):
    """Raise ImageError if the tags of a TIFF hold very many numbers; Pillow makes objects of them.

    Its texts and bytes, as other programs' layers are, do not count.
    """
    file.seek(0)
    head = file.read(8)
    if not head.startswith((b"II", b"MM")):
        return
    from PIL.TiffImagePlugin import ImageFileDirectory_v2  # other kinds start sooner without

    head += file.read(8) if head[2:3] == b"+" else b""  # a BigTIFF
    numbers = 0
    with contextlib.suppress(SyntaxError, struct.error, ValueError):  # for Pillow to tell
        places = [ImageFileDirectory_v2(head).next]
        for place in places:  # the directory, and what it leads to
            tags = ImageFileDirectory_v2(head)
            file.seek(place)
            tags.load(file)
            data = tags._tagdata.items()
            numbers += sum(len(value) for tag, value in data if tags.tagtype[tag] not in (1, 2, 7))
            if numbers > MAX_NUMBERS:
                raise ImageError(f"{numbers:,} bytes of numbers in tags, over {MAX_NUMBERS:,}")
            found = [tags[tag] for tag in _WITHIN if tag in tags and len(places) < 4]
            places += [place for place in found if isinstance(place, int)]


def _check_jpeg(file):
    """Return the number of scans of a JPEG, and of components in the first; of other files 0, 0.

    The segments are stepped over by their lengths, so that a thumbnail within one, a JPEG itself,
    does not count.

    Raises ImageError if it has far more scans or segments than any photograph.
    """
    file.seek(0)
    if file.read(2) != b"\xff\xd8":
        return 0, 0
    data = file.read()
    scans = segments = place = components = 0
    while segments <= MAX_SEGMENTS and (found := _MARKER.search(data, place)):
        place, marker = found.end(), found[1][0]
        if marker == _END and scans:
            break
        if marker in (_START, _END):
            continue
        segments += 1
        if marker == _SCAN:
            scans += 1
            components = components or int.from_bytes(data[place + 2 : place + 3], "big")
        place += int.from_bytes(data[place : place + 2], "big")
    if scans > MAX_SCANS:
        raise ImageError(f"{scans} scans, over {MAX_SCANS}")
    if segments > MAX_SEGMENTS:
        raise ImageError(f"over {MAX_SEGMENTS:,} segments")
    if data.count(b"Exif\0\0") > MAX_EXIF:
        raise ImageError(f"over {MAX_EXIF} segments of EXIF")
    return scans, components


def _orientation(image):
    if len(image.info.get("exif", b"")) > MAX_METADATA:
        return None
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
