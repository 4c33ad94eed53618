"""Looking at models: summaries, diagrams, and what in an image they look at."""

from lucid.visual._gradcam import GradCAM as GradCAM
from lucid.visual._gradcam import gradcam as gradcam
from lucid.visual._mermaid import mermaid as mermaid
from lucid.visual._summary import LayerSummary as LayerSummary
from lucid.visual._summary import Summary as Summary
from lucid.visual._summary import summary as summary
from lucid.visual._svg import svg as svg
