"""Foreign text on a terminal or a page: letters of every script stay, nothing else acts."""

from hypothesis import given
from hypothesis import strategies as st

from mlzsl.cli.text import printable


def test_letters_stay_and_what_acts_is_shown():
    assert printable("café 猫 שלום 🐕") == "café 猫 שלום 🐕"
    assert printable("a\nb\x1b[2J") == "a\\nb\\x1b[2J"
    assert printable("\u202egpj.exe\u2066") == "\\u202egpj.exe\\u2066"
    assert printable("\udcff") == "\\udcff"


@given(st.text())
def test_what_comes_out_is_printable_and_utf8(text):
    shown = printable(text)
    assert shown.isprintable()
    shown.encode()
    assert printable(shown) == shown
