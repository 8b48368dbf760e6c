"""Text from files on a terminal or a page: letters of every script stay, control characters are escaped."""

from hypothesis import given
from hypothesis import strategies as st

from mlzsl.cli.text import escape_control_chars


def test_letters_stay_and_control_characters_are_escaped():
    assert escape_control_chars("café 猫 שלום 🐕") == "café 猫 שלום 🐕"
    assert escape_control_chars("a\nb\x1b[2J") == "a\\nb\\x1b[2J"
    assert escape_control_chars("\u202egpj.exe\u2066") == "\\u202egpj.exe\\u2066"
    assert escape_control_chars("\udcff") == "\\udcff"


@given(st.text())
def test_escaped_text_is_printable_utf8(text):
    shown = escape_control_chars(text)
    assert shown.isprintable()
    shown.encode()
    assert escape_control_chars(shown) == shown
