"""Foreign text (names, labels, reasons) fit to be shown: nothing in it moves a cursor or turns a line around."""

NAMED = 5  # how many of many a sentence names


def escape_control_chars(text: str) -> str:
    """Escape control and format characters, bidirectional overrides among them, and bytes that are not UTF-8.

    Letters of every script stay as they are: "café\\n" becomes "café\\\\n".
    """
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def first_of(names: list[str]) -> str:
    """The first few of many names, for a sentence."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def plural(count: int, noun: str) -> str:
    """A number of things: "1 photo", "2,000 photos"."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")
