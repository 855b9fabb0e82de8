"""Pictures to drag: in the rendered book without a kernel, in Jupyter and on Colab with the model behind them."""

from .compare import ModelComparer
from .context import ContextExplorer

__all__ = [
    "ContextExplorer",
    "EntityImage",
    "MaskRateExplorer",
    "ModelComparer",
    "PotentialPairs",
    "RefinementStepper",
    "ThresholdPlayground",
]
