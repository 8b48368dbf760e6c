"""Text from files on a terminal or a page: letters of every script stay, control characters are escaped."""

from hypothesis import given
from hypothesis import strategies as st

from mlzsl.cli.errors import MAX_REASON, reason_of
from mlzsl.cli.text import MAX_MESSAGE, escape_control_chars, label_finder, label_key, one_line


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


def test_spellings_of_a_label_have_one_key():
    assert {label_key(each) for each in ("Hot Dog", "hot_dog", "HOT-DOG", " hot  dog\t", "hot\u2010dog")} == {"hot dog"}
    assert label_key("Cafe\u0301") == label_key("caf\u00e9")
    assert label_key("potter\u2019s wheel") == label_key("Potter's Wheel")
    assert label_key("dog") != label_key("dogs")


@given(st.text())
def test_the_key_of_a_key_is_itself(label):
    assert label_key(label_key(label)) == label_key(label)
    assert label_key(label.upper().lower()) == label_key(label.upper())


@given(st.lists(st.text(), min_size=1))
def test_a_label_is_found_as_it_is_written_before_its_other_spellings(names):
    find = label_finder(names)
    assert all(find(name) == name for name in names)


def test_a_label_is_found_in_any_spelling():
    find = label_finder(["Cardigan", "cardigan", "hot dog"])
    assert [find(each) for each in ("Cardigan", "cardigan", "CARDIGAN", "Hot-Dog", "dog")] == [
        *("Cardigan", "cardigan", "Cardigan", "hot dog"),
        None,
    ]


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=3000))
def test_a_message_is_a_paragraph_at_most(message):
    assert len(one_line(message)) <= MAX_MESSAGE
    assert one_line(message).isprintable()
    if len(escape_control_chars(message)) <= 300:
        assert one_line(message) == escape_control_chars(message)


def test_a_long_path_is_cut_in_the_middle_and_the_sentence_stays():
    sentence = one_line(f"/photos/{'a' * 10_000}.txt: no such file; name a text file of labels.")
    assert sentence.startswith("/photos/aaa")
    assert sentence.endswith("aaa.txt: no such file; name a text file of labels.")
    assert len(sentence) < 400


@given(st.text())
def test_a_reason_is_one_printable_line_of_bounded_length(text):
    reason = reason_of(ValueError(text))
    assert reason.isprintable()
    assert 0 < len(reason) <= MAX_REASON
