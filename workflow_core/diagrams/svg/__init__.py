"""Draws a definition as SVG with nested blocks, without a browser. Deterministic.

The image needs no external script, font, file or identifier, and its text is escaped, so it can be shown in three ways:

* as a separate file, or with ``<img src="...">``: its style sheet supports dark mode;
* inside a page (``<svg>`` in its HTML) whose Content-Security-Policy allows ``STYLE_SOURCE`` in its ``style-src``;
* inside a page with a strict Content-Security-Policy: use ``draw(..., style=False)`` and add ``STYLE`` to the page's
  style sheet. Without ``STYLE`` the image is light: colors are presentation attributes, which no policy forbids.
"""

from __future__ import annotations

from workflow_core.diagrams.svg.picture import draw
from workflow_core.diagrams.svg.style import STYLE, STYLE_SOURCE

__all__ = ["STYLE", "STYLE_SOURCE", "draw"]
