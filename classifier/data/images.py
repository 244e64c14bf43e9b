"""Photographs: how they are found, and the one way they are decoded, in training and after."""

import io
import os
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

# Only decoders that read pixels and nothing else: no PostScript, no plug-in found at run time.
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM")
# 100 megapixels: above any usual camera, below what fills the memory (300 MB as RGB).
MAX_PIXELS = 100_000_000


class ImageError(Exception):  # noqa: N818 - a name for what it is, not for being an error
    """A file that cannot be used as a photograph; its text says why, in a few words."""


def decode(file, size):
    """Decode a photograph into the pixels the network sees: `square(read_rgb(file), size)`."""
    return square(read_rgb(file), size)


def square(rgb, size):
    """Resize a picture to a square, the whole of it, aspect ratio not kept, as the original does.

    Args:
        rgb: PIL image, RGB.
        size: side of the square, pixels.

    Returns:
        uint8 array (size, size, 3), RGB; bicubic with antialiasing.
    """
    return np.asarray(rgb.resize((size, size), Image.Resampling.BICUBIC))


def read_rgb(file):
    """Read a photograph.

    Rotated as its EXIF orientation says, first frame if animated, transparent parts over white,
    16 bits scaled to 8, any colour space to RGB.

    Args:
        file: path, or a binary file object.

    Returns:
        PIL image, RGB.

    Raises:
        ImageError: not an image, truncated, empty, or over MAX_PIXELS.
    """
    if isinstance(file, (str, os.PathLike)) and Path(file).exists() and not Path(file).is_file():
        raise ImageError("not a file")  # a pipe would be waited for
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd metadata, which does not matter here
            with Image.open(file, formats=FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise ImageError(f"{image.width}x{image.height} pixels, over {MAX_PIXELS:,}")
                image.load()
                return _to_rgb(_upright(image))
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        raise ImageError("too many pixels") from error
    except Image.UnidentifiedImageError as error:
        raise ImageError("not an image" if _length(file) else "empty file") from error
    except FileNotFoundError as error:
        raise ImageError("no such file") from error
    except Exception as error:  # Pillow's decoders raise many kinds for damaged files
        raise ImageError(
            str(error).splitlines()[0] if str(error) else type(error).__name__
        ) from error


def _upright(image):
    try:
        image.getexif()
    except Exception:  # damaged metadata, of as many kinds; the pixels are there
        return image
    return ImageOps.exif_transpose(image)


def _to_rgb(image):
    if image.mode in ("I;16", "I;16B", "I;16L", "I;16N", "I"):
        # Pillow's own conversion clips 16-bit grey at 255 instead of scaling it.
        grey = np.asarray(image).astype(np.float64) / 257
        return Image.fromarray(grey.clip(0, 255).round().astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def _length(file):
    if isinstance(file, (str, os.PathLike)):
        return Path(file).stat().st_size
    return file.seek(0, io.SEEK_END)


def files_below(folder):
    """Return the files below `folder` (a Path), sorted; names that start with '.' do not count."""
    found = []
    for root, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [
            name for name in folders if not name.startswith(".") and not _circle(Path(root, name))
        ]
        found += [Path(root, name) for name in names if not name.startswith(".")]
    return sorted(found)


def _circle(folder):
    """Return whether a folder is a link to one that it lies in."""
    return folder.is_symlink() and folder.parent.resolve().is_relative_to(folder.resolve())
