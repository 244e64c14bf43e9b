"""How a network is trained, as data; a flag on train.py's command line goes before its recipe."""

import math
from dataclasses import dataclass

from classifier.architecture import MIN_SIZE


@dataclass(frozen=True)
class Recipe:
    """The settings that decide what comes out of a training; the defaults train from scratch.

    On the digits, 3 epochs give 95% of val with zero_init and 79% without.
    """

    num_epochs: int = 50  # passes over the training images; 0: the regression is all
    optimizer: str = "sgd"  # sgd has Nesterov momentum 0.9; adam is the original's
    learning_rate: float = 0.0125  # Goyal et al. 2017: 0.1 for 256 images a step, this for 32
    schedule: str = "cosine"  # of the learning rate, down to 0; constant is the original's
    warmup: float = 0.05  # fraction of the steps in which the rate rises from 0
    weight_decay: float = 5e-4  # decoupled: a step takes this times the rate off each weight
    label_smoothing: float = 0.1  # Szegedy et al. 2016
    dropout: float = 0.0  # in the blocks and before the head; the copies take its place
    copies: bool = True  # train on the stored augmented copies too
    crop: float = 0.35  # random crops of this part of the area or more, and flips; 1: flips alone
    mixup: float = 0.2  # alpha of the shares by which images are mixed, and labels; 0: they are not
    progressive: bool = True  # epochs at 1/2 and 3/4 of the side come first: see image_sides
    zero_init: bool = True  # every block starts as its shortcut alone
    enlarge_to: int = 0  # pixels; pretrained filters know large objects
    head: str = "random"  # regression: the best linear one on the pretrained features
    refit: bool = False  # another regression after the last epoch, on what was learned
    norm: str = "batch"  # frozen: BatchNorms stay as they were pretrained
    freeze_stages: int = 0  # first stages that stay as they are; conv1 is stage 1
    mirror: bool = True  # predictions are averaged over image and mirror image


RECIPES = {
    # The original repository's: Adam at a constant rate, dropout inside every block.
    "original": Recipe(
        optimizer="adam",
        learning_rate=0.005,
        schedule="constant",
        warmup=0.0,
        weight_decay=0.0,
        label_smoothing=0.0,
        dropout=0.5,
        crop=0.0,
        mixup=0.0,
        progressive=False,
        zero_init=False,
        mirror=False,
    ),
    # For photographs that no pretrained weights know; some 5 hours on 2 cores for 50 epochs of
    # 80,800 images. Crops and mixup pay where each image is seen so often that it is known by
    # heart; in few epochs they cost (--crop 0 --mixup 0). Val accuracy is still to be measured.
    "scratch": Recipe(),
    # From pretrained weights, in minutes without a GPU: the best head for their features, and no
    # step after it. Val accuracy (clean, seed 0): 91.3% of 64x64 arrays, 94.0% of 224x224 ones.
    # Enlarged to 192, 256, 288 and 320 the 64x64 ones gave 90.7, 91.1, 90.6 and 89.9%.
    "head": Recipe(
        num_epochs=0,
        label_smoothing=0.0,  # it would count in the val loss, with nothing trained by it
        copies=False,
        crop=0.0,
        mixup=0.0,
        progressive=False,
        enlarge_to=224,
        head="regression",
        norm="frozen",
        freeze_stages=5,
    ),
    # From that head on, stage 5 is trained too, BatchNorms and all, at a high rate; then the head
    # is fitted anew to what it has learned. Some half an hour without a GPU. Val accuracy of 34 of
    # the classes, with 6 crops of each photograph made before: 95.4%, where the head alone has
    # 93.6%; on all classes it is still to be measured. 3 epochs gain next to nothing.
    "finetune": Recipe(
        num_epochs=12,
        learning_rate=0.04,
        weight_decay=0.0,
        label_smoothing=0.0,
        copies=False,
        crop=0.5,
        mixup=0.0,
        progressive=False,
        enlarge_to=224,
        head="regression",
        refit=True,
        freeze_stages=4,
    ),
}


def image_sides(side: int, recipe: Recipe) -> list[int]:
    """Return the side of the images that each epoch trains on, pixels.

    Where the recipe is progressive, a third of the epochs each has 1/2, 3/4 and all of the images'
    own side, and the last one in any case all of it; not where the network enlarges them.
    """
    progressive = recipe.progressive and recipe.enlarge_to <= side
    shares, count = (1 / 2, 3 / 4, 1) if progressive else (1,), recipe.num_epochs
    thirds = [math.ceil(len(shares) * epoch / count) - 1 for epoch in range(1, count + 1)]
    return [max(MIN_SIZE, round(side * shares[third])) for third in thirds]
