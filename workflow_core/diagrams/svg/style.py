"""The colors and icons of a diagram: one table, from which the attributes and the style sheet are generated."""

from __future__ import annotations

import base64
import hashlib

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"

COLORS: dict[str, dict[str, tuple[str, str]]] = {
    "page": {"fill": ("#ffffff", "#10151b")},
    "text": {"fill": ("#1c2530", "#e7ebf0")},
    "muted": {"fill": ("#556273", "#a8b3c1")},
    "arrow": {"stroke": ("#7d8a9a", "#78869a")},
    "lane": {"fill": ("#ffffff", "#171e26"), "stroke": ("#d3dae2", "#36424f")},
    "action": {"fill": ("#ffffff", "#1b232d"), "stroke": ("#a9b5c4", "#4d5b6c")},
    "wait": {"fill": ("#fff9eb", "#262114"), "stroke": ("#d9b35c", "#7c6531")},
    "decide": {"fill": ("#f7f4fd", "#221e31"), "stroke": ("#b8a6dd", "#60528a")},
    "repeat": {"fill": ("#eef7f9", "#13252a"), "stroke": ("#86bac4", "#356570")},
    "thread": {"fill": ("#f0f8f2", "#15251b"), "stroke": ("#8fbf9f", "#3d6a4c")},
    "guard": {"fill": ("#fbf5f0", "#281e17"), "stroke": ("#d3a989", "#7d5a40")},
    "jump": {"fill": ("#f2f4f7", "#232b35"), "stroke": ("#b3bdca", "#4d5b6c")},
    "fail": {"fill": ("#fdf2f1", "#2f1b1c"), "stroke": ("#d99a94", "#8a4a47")},
    "here": {"stroke": ("#1f63cf", "#7db0ff")},
    "passed": {"stroke": ("#1d7a42", "#76d297")},
    "failed": {"stroke": ("#b3261e", "#ff9c93")},
    "action-icon": {"stroke": ("#2f5fa8", "#8ab4f8")},
    "wait-icon": {"stroke": ("#8a5a00", "#f0c25e")},
    "decide-icon": {"stroke": ("#6641a8", "#c0a8f6")},
    "repeat-icon": {"stroke": ("#0d6675", "#6ccada")},
    "thread-icon": {"stroke": ("#1f6f3f", "#80d19c")},
    "guard-icon": {"stroke": ("#934a22", "#eda67f")},
    "jump-icon": {"stroke": ("#4b5767", "#b5bfcc")},
    "fail-icon": {"stroke": ("#b3261e", "#f59d96")},
    "here-text": {"fill": ("#1a57b8", "#8fbbff")},
    "failed-text": {"fill": ("#a8221b", "#ffa59d")},
}
"""The attributes of each role in light and dark mode. The roles of states come after those to which they are added."""

SCOPE = "wf-diagram"

FAMILIES = {
    **dict.fromkeys(("step", "do", "activity", "child"), "action"),
    **dict.fromkeys(("select", "wait_for", "sleep", "on", "timeout", "when", "done"), "wait"),
    **dict.fromkeys(("if", "switch", "branch"), "decide"),
    **dict.fromkeys(("while", "for_each"), "repeat"),
    **dict.fromkeys(("go", "parallel", "race", "thread"), "thread"),
    **dict.fromkeys(("try", "except", "finally", "within"), "guard"),
    **dict.fromkeys(("return", "break", "continue"), "jump"),
    "fail": "fail",
}
"""The colors of each kind of block."""

LANES = frozenset(("on", "timeout", "when", "done", "branch", "thread", "except", "finally"))
"""The parts of a statement. They have the color of a lane and the icon of the statement."""

ICONS = {
    "step": "M5 3l7.5 5L5 13z",
    "do": "M3 13l.7-3L10.5 3.2l2.3 2.3L6 12.3z",
    "activity": "M9.5 2.5h4v4M13.5 2.5L8 8M11.5 9v4h-9V4H7",
    "child": "M2.5 2.5h7.5V10H2.5zM6 12.5v1h7.5V6h-1",
    "select": "M4 2.5h8M4 13.5h8M5 2.5c0 4 6 7 6 11M11 2.5c0 4-6 7-6 11",
    "wait_for": "M8 1.5L14.5 8 8 14.5 1.5 8zM6.5 6v4M9.5 6v4",
    "sleep": "M13 9.6A5.6 5.6 0 1 1 6.4 3 4.6 4.6 0 0 0 13 9.6z",
    "on": "M9 1.5L3.5 9H8L7 14.5 12.5 7H8z",
    "timeout": "M8 2.2a5.8 5.8 0 1 0 0 11.6A5.8 5.8 0 1 0 8 2.2zM8 5v3.2l2.2 1.6",
    "when": "M8 1.5L14.5 8 8 14.5 1.5 8zM5.5 8l2 2 3.2-4",
    "done": "M2.8 8.6l3.4 3.4 7-8",
    "within": "M2.5 2.5v11h11v-11zM8 5v3.2l2.2 1.6",
    "if": "M8 1.5L14.5 8 8 14.5 1.5 8z",
    "switch": "M2 8h4M6 8l5.5-4.5M6 8h7.5M6 8l5.5 4.5",
    "branch": "M8 3.5L12.5 8 8 12.5 3.5 8z",
    "while": "M13 6.2A5.4 5.4 0 1 0 13.4 9M13.4 2.6v3.8H9.6",
    "for_each": "M2.5 4h1M6.5 4h7M2.5 8h1M6.5 8h7M2.5 12h1M6.5 12h7",
    "go": "M2.5 4H13M10.5 1.5L13 4l-2.5 2.5M5 4c0 5 2 8 8 8M10.5 9.5L13 12l-2.5 2.5",
    "race": "M3 2.5v11M3 3.5h10l-2.5 3L13 9.5H3",
    "parallel": "M4.5 2.5v11M2 11l2.5 2.5L7 11M11.5 2.5v11M9 11l2.5 2.5L14 11",
    "thread": "M8 2.5v11M5 10.5l3 3 3-3",
    "try": "M8 1.8l5 2v4c0 3-2 5.2-5 6.4-3-1.2-5-3.4-5-6.4v-4z",
    "except": "M8 2.2L14.3 13.5H1.7zM8 6.5v3M8 11.3v.4",
    "finally": "M4 14.5V2.5h8L10.3 5.5 12 8.5H4",
    "fail": "M8 2.2a5.8 5.8 0 1 0 0 11.6A5.8 5.8 0 1 0 8 2.2zM6 6l4 4M10 6l-4 4",
    "return": "M3.5 3.5h9v9h-9z",
    "break": "M8.5 2.5h-6v11h6M6 8h8M11.3 5.2L14 8l-2.7 2.8",
    "continue": "M13.5 3.5v3a3 3 0 0 1-3 3h-8M5.3 6.7L2.5 9.5l2.8 2.8",
    "passed": "M2.8 8.6l3.4 3.4 7-8",
    "failed": "M3.5 3.5l9 9M12.5 3.5l-9 9",
    "here": "M8 5.5a2.5 2.5 0 1 0 0 5 2.5 2.5 0 1 0 0-5z",
}
"""Paths in a 16 x 16 square, drawn as lines."""


def attributes(*roles: str) -> dict[str, str]:
    """Returns the classes of roles, and their light colors as presentation attributes. The last role wins."""
    result = {"class": " ".join(f"wf-{role}" for role in roles)}
    for role in roles:
        result |= {name: light for name, (light, _) in COLORS[role].items()}
    return result


def _style() -> str:
    rules = "".join(
        f".{SCOPE} .wf-{role}{{{';'.join(f'{name}:{dark}' for name, (_, dark) in values.items())}}}"
        for role, values in COLORS.items()
    )
    return f"@media (prefers-color-scheme:dark){{{rules}}}"


STYLE = _style()
"""The style sheet with the dark colors. It affects only diagrams."""

STYLE_SOURCE = f"'sha256-{base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()}'"
"""The style sheet as a source for ``style-src`` of a Content-Security-Policy, including quotes."""
