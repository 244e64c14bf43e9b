"""The recipes, and the flags that change them."""

import re
from dataclasses import asdict, fields, replace

import pytest

import train
from classifier.training.recipes import RECIPES, Recipe, image_sides


def recipe_of(*words):
    return train.parse_args(list(map(str, words)))[1]


def test_the_recipe_follows_from_init_and_a_flag_goes_before_it(tmp_path):
    (tmp_path / "weights.h5").touch()
    assert recipe_of() == RECIPES["scratch"]
    assert recipe_of("--init", "imagenet") == RECIPES["head"]
    assert recipe_of("--init", tmp_path / "weights.h5") == RECIPES["head"]
    assert recipe_of("--recipe", "original") == RECIPES["original"]
    mixed = recipe_of("--recipe=original", "--copies", "--dropout", 0, "-lr", 1, "--mirror")
    assert mixed == replace(RECIPES["original"], dropout=0, learning_rate=1, mirror=True)
    assert not recipe_of("--no-copies").copies


def test_help_shows_each_settings_default_in_each_recipe(capsys):
    with pytest.raises(SystemExit):
        train.parse_args(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    for setting in fields(Recipe):
        flag = setting.name.replace("_", "-")
        words = []
        for name, recipe in RECIPES.items():
            value = getattr(recipe, setting.name)
            words.append(f"{name} {('no', 'yes')[value] if isinstance(value, bool) else value}")
        (told,) = re.findall(rf"--{flag}\b[^()]*\(default: ([^)]*)\)", text.split("recipe: ")[1])
        assert told == ", ".join(words)


def test_a_recipe_states_only_where_it_differs():
    for name, recipe in RECIPES.items():
        assert set(asdict(recipe)) == set(train.SETTINGS), name
    assert RECIPES["scratch"] == Recipe()


@pytest.mark.parametrize(
    ("side", "num_epochs", "sides"),
    [
        (64, 6, [32, 32, 48, 48, 64, 64]),
        (64, 4, [32, 48, 64, 64]),
        (64, 2, [48, 64]),
        (64, 1, [64]),
        (64, 0, []),
        (48, 3, [32, 36, 48]),
        (32, 3, [32, 32, 32]),
    ],
)
def test_smaller_images_come_first_and_the_last_epoch_has_the_arrays_own(side, num_epochs, sides):
    recipe = Recipe(num_epochs=num_epochs)
    assert image_sides(side, recipe) == sides
    for one in (replace(recipe, progressive=False), replace(recipe, enlarge_to=side + 1)):
        assert image_sides(side, one) == [side] * num_epochs
