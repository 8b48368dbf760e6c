"""From photos to tags: `Tagger.open("model.onnx").tag("photos/")`. Never imports torch."""

from mlzsl.imaging.finding import find_images
from mlzsl.runtime.io.inputs import find_photos
from mlzsl.runtime.tagging.tagger import Tagger
from mlzsl.runtime.tags import Photo, Tag, Tagged

__all__ = ["Photo", "Tag", "Tagged", "Tagger", "find_images", "find_photos"]
