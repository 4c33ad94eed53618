"""Looking at models: summaries."""

from lucid.visual._summary import LayerSummary as LayerSummary
from lucid.visual._summary import Summary as Summary
from lucid.visual._summary import summary as summary
