"""Why a photo was not read: it is at fault, or the machine is. Each text is the reason, without the file's name."""

from mlzsl.cli.errors import MlzslError


class UnreadableImage(MlzslError):  # noqa: N818 (it says what is wrong with the photo)
    """A photo that cannot be read: it is missing, damaged, over a limit, empty or of a format that is not supported."""


class TransientReadError(MlzslError):
    """A photo that could not be read because the machine failed: too little memory, or a storage or network error.

    The photo may be sound; reading it again may succeed.
    """
