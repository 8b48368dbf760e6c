"""Text from files (names, labels, reasons), made safe to print: no control characters, no change of direction."""

import unicodedata

MAX_NAMED = 5  # how many names a sentence lists


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
    """The same text for all spellings of a label: case, Unicode form, spaces and underscores make no difference."""
    return " ".join(unicodedata.normalize("NFC", label.casefold()).replace("_", " ").split())


def plural(count: int, noun: str) -> str:
    """A number of things: "1 photo", "2,000 photos"."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")
