"""Looking at models: summaries, and what in an image they look at."""

from lucid.visual._gradcam import GradCAM as GradCAM
from lucid.visual._gradcam import gradcam as gradcam
from lucid.visual._summary import LayerSummary as LayerSummary
from lucid.visual._summary import Summary as Summary
from lucid.visual._summary import summary as summary
