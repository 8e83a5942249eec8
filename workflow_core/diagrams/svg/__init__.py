"""A definition as a picture: SVG with nested blocks, drawn without a browser. Deterministic.

The picture needs no script, font, file or identifier from outside, and its text is escaped, so it can be shown in three
ways:

* as a file of its own, or by ``<img src="...">``: the style sheet inside makes it dark where the reader wants that;
* inside a page (``<svg>`` in its HTML) whose Content-Security-Policy allows ``STYLE_SOURCE`` in its ``style-src``;
* inside a page under a strict Content-Security-Policy: ``draw(..., style=False)``, and the page's own style sheet holds
  ``STYLE``. Without it the picture is light: colours are presentation attributes, which no policy forbids.
"""

from __future__ import annotations

from workflow_core.diagrams.svg.picture import draw
from workflow_core.diagrams.svg.style import STYLE, STYLE_SOURCE

__all__ = ["STYLE", "STYLE_SOURCE", "draw"]
