"""The versions of the libraries that decode: what is made of pixels is reused only with the same ones."""

import importlib.metadata

import PIL
from PIL import features


def decoder_versions() -> str:
    """Such as "Pillow 12.0.0, libjpeg-turbo 3.1.2, pillow-heif 1.1.1"; a library that is not installed is left out."""
    heif = [each.version for each in importlib.metadata.distributions(name="pillow-heif")]
    versions = {
        "Pillow": PIL.__version__,
        "libjpeg-turbo": features.version_feature("libjpeg_turbo"),
        "pillow-heif": heif[0] if heif else None,
    }
    return ", ".join(f"{name} {version}" for name, version in versions.items() if version)
