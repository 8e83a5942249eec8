"""The site of the documentation can be built, all its links lead somewhere, and it loads nothing from elsewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = ("cloud_adapter", "workflow_core", "gorchestrate", "functions", "examples", "deploy", "benchmarks", "docs")
PAGE = re.compile(r"(?<![\w/])docs/[\w/-]+\.(?:md|py)\b(?:#([\w-]+))?")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    site = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return site


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_what_its_pages_load_is_part_of_it(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 30
    for page in pages:
        loaded = re.findall(
            r"<(?:img|script|source|link)\b[^>]*?\b(?:src|srcset|href)=\"?([^\"\s>]+)", page.read_text()
        )
        assert loaded
        for target in loaded:
            if page.name != "404.html" and not target.startswith("data:"):
                assert (page.parent / unquote(target.partition("?")[0])).exists(), f"{page}: {target}"


@pytest.mark.slow
def test_the_index_for_language_models_has_all_pages(site: Path) -> None:
    linked = set(re.findall(r"\]\(([^)]+)\)", (site / "llms.txt").read_text()))
    assert all((site / target).is_file() for target in linked)
    pages = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")}
    assert pages - {"index.md"} <= linked


def anchors_of(page: Path) -> set[str]:
    """The anchors of the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_pages_that_sources_and_other_texts_name_are_there() -> None:
    files = [
        path
        for name in SOURCES
        for path in (ROOT / name).rglob("*")
        if path.suffix in (".py", ".md", ".sh", ".example")
    ]
    files += [ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", ROOT / "README.md"]
    found = 0
    for file in files:
        for match in PAGE.finditer(file.read_text()):
            found += 1
            page = ROOT / match[0].partition("#")[0]
            assert page.is_file(), f"{file}: {match[0]}"
            assert match[1] is None or match[1] in anchors_of(page), f"{file}: {match[0]}"
    assert found > 50
