"""How a photo becomes a tensor: one definition, used by training, calibration, verification and tagging alike."""

from mlzsl.imaging.decoding import UnreadableImage, is_image_name, load_image
from mlzsl.imaging.preprocessing import Preprocessing

__all__ = ["Preprocessing", "UnreadableImage", "is_image_name", "load_image"]
