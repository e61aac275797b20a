"""Laws of the messages of _checks.py that no test of a public function states."""

import pytest
from helpers.nets import message

from sparsetrain import _checks


@pytest.mark.parametrize(
    "value, hint",
    [
        ("spars", ". Did you mean 'sparse'?"),
        ("Dense", ". Did you mean 'dense'?"),
        ("x", ""),
        (3, ""),
    ],
)
def test_an_unknown_name_gets_a_hint_if_a_known_name_is_similar(value, hint):
    assert message(
        ValueError, lambda: _checks.check_name("f", "a", value, ("sparse", "dense"))
    ) == (f"sparsetrain.f: expected a to be one of sparse, dense, got {value!r}{hint}")


def test_did_you_mean_always_names_the_most_similar_name_and_lists_all():
    assert _checks.did_you_mean("xyz", ["b", "xya", "a"]) == (
        "did you mean 'xya'? known are a, b, xya"
    )
