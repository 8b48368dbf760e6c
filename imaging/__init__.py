"""From a photo's file to the network's input: one decoding and preprocessing for training, calibration and tagging."""

from mlzsl.imaging.decoding import (
    DecodedPhoto,
    ImageInMemory,
    PhotoSource,
    decode_photo,
    is_image_name,
    load_image,
)
from mlzsl.imaging.errors import TransientReadError, UnreadableImage
from mlzsl.imaging.preprocessing import Preprocessing

__all__ = [
    "DecodedPhoto",
    "ImageInMemory",
    "PhotoSource",
    "Preprocessing",
    "TransientReadError",
    "UnreadableImage",
    "decode_photo",
    "is_image_name",
    "load_image",
]
