"""Pictures to drag: in the rendered book without a kernel, in Jupyter and on Colab with the model behind them."""

from .context import ContextExplorer
from .threshold import ThresholdPlayground

__all__ = ["ContextExplorer", "ThresholdPlayground"]
