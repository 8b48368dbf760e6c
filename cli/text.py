"""Text from files (names, labels, reasons), made safe to print: no control characters, no change of direction."""

import unicodedata
from collections.abc import Callable, Iterable

MAX_NAMED = 5  # how many names a sentence lists
MAX_WORD = 300  # characters of a word of a message, such as a path
MAX_MESSAGE = 1000  # characters
_SAME = str.maketrans({"_": " ", "-": " ", "\u2010": " ", "\u2011": " ", "\u2013": " ", "\u2019": "'"})


def escape_control_chars(text: str) -> str:
    """Escape control and format characters, bidirectional overrides among them, and bytes that are not UTF-8.

    Letters of every script stay as they are: "café\\n" becomes "café\\\\n".
    """
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def first_of(names: list[str]) -> str:
    """The first MAX_NAMED names and the number of the others: "a, b, c, d, e and 3 more"."""
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return ", ".join(names[:MAX_NAMED]) + more


def label_key(label: str) -> str:
    """The same text for all spellings of a label: case, Unicode form, spaces, underscores and hyphens do not matter."""
    composed = unicodedata.normalize("NFC", unicodedata.normalize("NFD", label).casefold())
    return " ".join(composed.translate(_SAME).split())


def label_finder(names: Iterable[str]) -> Callable[[str], str | None]:
    """A function that finds the one of `names` that a label means: the same text, else the first of its `label_key`."""
    known = list(names)
    exact = set(known)
    by_key = {label_key(name): name for name in reversed(known)}
    return lambda label: label if label in exact else by_key.get(label_key(label))


def one_line(message: str) -> str:
    """A message on one line of at most a paragraph, whatever names it quotes.

    Control characters are escaped; words over MAX_WORD characters (paths, labels), and then the whole, are cut in the
    middle.
    """
    words = (_cut(word, MAX_WORD) for word in escape_control_chars(message).split(" "))
    return _cut(" ".join(words), MAX_MESSAGE)


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit // 2 - 1]}…{text[-(limit // 2) :]}"


def none_readable(count: int, first: str) -> str:
    """Photos of which none could be read; `first` is the first one with its error."""
    return (
        f"the only photo could not be read: {first}"
        if count == 1
        else (f"none of the {count:,} photos could be read (first: {first})")
    )


def plural(count: int, noun: str) -> str:
    """A number of things: "1 photo", "2,000 photos"."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")
