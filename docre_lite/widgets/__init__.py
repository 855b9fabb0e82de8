"""Interactive pictures: in the rendered book the page's own models answer, in Jupyter and on Colab the reader's."""

from .compare import ModelComparer
from .context import ContextExplorer
from .image import EntityImage
from .masking import MaskRateExplorer
from .potential import PotentialPairs
from .reader import Reader
from .refinement import RefinementStepper
from .threshold import ThresholdPlayground

__all__ = [
    "ContextExplorer",
    "EntityImage",
    "MaskRateExplorer",
    "ModelComparer",
    "PotentialPairs",
    "Reader",
    "RefinementStepper",
    "ThresholdPlayground",
]
