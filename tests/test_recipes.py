"""The recipes, and the flags that change them."""

import re
from dataclasses import asdict, fields, replace

import pytest

import train
from classifier import cli
from classifier.training import precision
from classifier.training.recipes import RECIPES, Recipe


def recipe_of(*words):
    return train.parse_args(list(map(str, words)))[1]


def test_the_recipe_follows_from_init_and_machine_and_a_flag_goes_before_it(tmp_path, monkeypatch):
    (tmp_path / "weights.h5").touch()
    assert recipe_of() == RECIPES["scratch"]
    for gpus, recipe in (([], "head"), (["gpu:0"], "finetune")):
        monkeypatch.setattr(train, "DRIVERS", [tmp_path / "none", tmp_path / "weights.h5"])
        monkeypatch.setattr(precision, "gpus", lambda gpus=gpus: gpus)
        assert recipe_of("--init", "imagenet") == RECIPES[recipe]
        assert recipe_of("--init", tmp_path / "weights.h5") == RECIPES[recipe]
    monkeypatch.setattr(train, "DRIVERS", [tmp_path / "none"])
    monkeypatch.setattr(cli, "start_keras", None)  # it is not started to look for GPUs
    assert recipe_of("--init", "imagenet") == RECIPES["head"]
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
