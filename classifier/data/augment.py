"""Random augmentation: the original's for the stored copies; crops and mixup anew in every epoch.

The original's is rotation, shift, shear, zoom and flip with nearest fill.
"""

import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image

# The ranges of the original's ImageDataGenerator; as there, shear is an angle in degrees.
ROTATION, SHIFT, SHEAR, ZOOM = 40.0, 0.2, 0.2, 0.2
# Sides of a random crop's rectangle, width to height.
ASPECT = (3 / 4, 4 / 3)


def augmented(image: np.ndarray, generators: Iterable[np.random.Generator]) -> Iterator[np.ndarray]:
    """Yield a random copy of a picture for each generator.

    Args:
        image: uint8 array (size, size, 3).
        generators: iterable of numpy Generators, each used for one copy.

    Yields:
        uint8 array (size, size, 3).
    """
    size = image.shape[0]
    # Repeating the edge far enough around the picture is the 'nearest' fill: no corner of the
    # output comes from farther away than one size (0.71 * 1.2 + 0.2 * 1.2 * 1.42 - 0.5 < 1).
    padded = Image.fromarray(np.pad(image, ((size, size), (size, size), (0, 0)), mode="edge"))
    for generator in generators:
        matrix = random_affine(size, generator) + [[size], [size]] * np.array([0, 0, 1])
        view = padded.transform(
            (size, size), Image.Transform.AFFINE, tuple(matrix.ravel()), Image.Resampling.BILINEAR
        )
        yield np.asarray(view)


def random_affine(size: int, generator: np.random.Generator) -> np.ndarray:
    """Draw the transform of one copy, in the order of Keras' ImageDataGenerator.

    Args:
        size: side of the picture, pixels.
        generator: numpy Generator.

    Returns:
        float array (2, 3): maps output pixel (x, y, 1) to the input pixel it is taken from.
    """
    angle = math.radians(generator.uniform(-ROTATION, ROTATION))
    shift_x, shift_y = generator.uniform(-SHIFT, SHIFT, 2) * size
    shear = math.radians(generator.uniform(-SHEAR, SHEAR))
    zoom_x, zoom_y = generator.uniform(1 - ZOOM, 1 + ZOOM, 2)
    flip = -1.0 if generator.random() < 0.5 else 1.0

    cos, sin = math.cos(angle), math.sin(angle)
    rotate = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    move = np.array([[1, 0, shift_x], [0, 1, shift_y], [0, 0, 1]])
    slant = np.array([[1, math.sin(-shear), 0], [0, math.cos(shear), 0], [0, 0, 1]])
    scale = np.diag([zoom_x * flip, zoom_y, 1.0])
    centre = size / 2  # Pillow samples at pixel centres, so the middle is size / 2
    to_centre = np.array([[1, 0, -centre], [0, 1, -centre], [0, 0, 1]])
    back = np.array([[1, 0, centre], [0, 1, centre], [0, 0, 1]])
    return (back @ rotate @ move @ slant @ scale @ to_centre)[:2]


class Crop(NamedTuple):
    """A part of a picture: left, top, right and bottom, in pixels, and whether it is flipped."""

    box: tuple[float, float, float, float]
    flipped: bool


def random_crop(size: int, smallest: float, generator: np.random.Generator) -> Crop:
    """Draw a random crop, flipped half of the time.

    Szegedy et al. 2014 (arXiv:1409.4842), with crops of `smallest` of the area or more; of 1 it is
    the flip alone.

    Args:
        size: side of the picture, pixels.
        smallest: fraction of the area, over 0 to 1.
        generator: numpy Generator.
    """
    area = generator.uniform(smallest, 1)
    narrowest, widest = max(ASPECT[0], area), min(ASPECT[1], 1 / area)  # that the picture holds
    ratio = math.exp(generator.uniform(math.log(narrowest), math.log(widest)))
    width, height = (min(1.0, math.sqrt(area * r)) * size for r in (ratio, 1 / ratio))
    left, top = generator.uniform(0, size - width), generator.uniform(0, size - height)
    return Crop((left, top, left + width, top + height), generator.random() < 0.5)


def cropped(image: np.ndarray, crop: Crop, side: int | None = None) -> np.ndarray:
    """Return a part of a picture.

    Args:
        image: uint8 array (size, size, 3).
        crop: of `random_crop` for this size.
        side: of what is returned, pixels; None for the picture's.

    Returns:
        uint8 array (side, side, 3).
    """
    view = resized(image, side or image.shape[0], crop.box)
    return view[:, ::-1] if crop.flipped else view


def resized(
    image: np.ndarray, side: int, box: tuple[float, float, float, float] | None = None
) -> np.ndarray:
    """Return a picture, or the part of it in a box of left, top, right and bottom, at another size.

    Args:
        image: uint8 array (size, size, 3).
        side: of what is returned, pixels.
        box: in pixels of the picture; None for all of it.

    Returns:
        uint8 array (side, side, 3).
    """
    view = Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR, box)
    return np.asarray(view)


def mixup(
    images: np.ndarray, labels: np.ndarray, alpha: float, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return a batch in which each image is mixed with the one before it, and the labels likewise.

    Zhang et al. 2017 (arXiv:1710.09412), with one share for the batch.

    Args:
        images: uint8 array (N, size, size, 3), in any order.
        labels: float array (N, classes).
        alpha: over 0; the share of the other image is of the distribution Beta(alpha, alpha).
        generator: numpy Generator.

    Returns:
        arrays of the same shapes and types.
    """
    share = np.float32(generator.beta(alpha, alpha))

    def mixed(values):
        return (1 - share) * values + share * np.roll(values, 1, axis=0)

    return np.rint(mixed(images)).astype(images.dtype), mixed(labels).astype(labels.dtype)
