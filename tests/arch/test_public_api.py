"""The public names and their signatures are those of the snapshot."""

import importlib.util
import re

import kwik
from tests.arch.public_api import SNAPSHOT, render


def test_every_public_name_exists():
    assert [name for name in kwik.__all__ if not hasattr(kwik, name)] == []
    assert len(set(kwik.__all__)) == len(kwik.__all__)


def test_the_tour_names_what_exists():
    named = set(re.findall(r"`(kwik\.\w+)`", kwik.__doc__ or ""))
    assert len(named) > 10
    assert [name for name in sorted(named) if importlib.util.find_spec(name) is None] == []


def test_public_api_is_unchanged():
    expected = SNAPSHOT.read_text("utf-8").splitlines()
    assert render().splitlines() == expected, "changed on purpose? python -m tests.arch.public_api --update"
