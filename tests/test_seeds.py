"""Random numbers: the same for the same names, in every process and release."""

from classifier.seeds import generator


def test_numbers_depend_on_every_part_of_the_key_and_on_where_it_ends():
    keys = [("split", 1, "ant"), ("split", 2, "ant"), ("split", 1, "bee"), ("copies", 1, "ant"),
            ("split", 11, "x"), ("split", 1, "1x"), ("split1", 1, "x"), ("split", "1", "ant"),
            ("split", 1, "ant", 0), ("split", 1), ("split", 1, "\udcff")]  # fmt: skip
    drawn = [tuple(generator(*key).integers(0, 1 << 62, 4)) for key in keys]
    assert len(set(drawn)) == len(keys)
    assert tuple(generator(*keys[0]).integers(0, 1 << 62, 4)) == drawn[0]


def test_a_key_gives_the_numbers_that_it_gave_before():
    """Else a seed in the README would not make its figures again."""
    raw = generator("split", 0, "ant").bit_generator.random_raw(2)
    assert raw.tolist() == [7374434322698434855, 14625347645870024436]
