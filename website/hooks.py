"""What MkDocs is told to do beside its own (mkdocs.yml): one site from documents that stay plain Markdown.

The documents link to each other as they do in a checkout: README.md to docs/, docs/ to the experiments and the chart.
Whatever is linked to outside of docs/ becomes a page of the site, under `repository/`, so that the site is whole without a
network; a link that leads nowhere fails the strict build.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
_LINK = re.compile(r"(?<=\]\()([^)#\s]+)")
_LANGUAGES = {".py": "python", ".json": "json", ".yaml": "yaml", ".yml": "yaml"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds README.md as the front page, and every file that a document links to outside of docs/."""
    documents = [ROOT / "README.md", *(Path(file.abs_src_path or "") for file in files.documentation_pages())]
    while documents:
        document = documents.pop()
        uri = _page(document)
        if files.get_file_from_path(uri) is None:
            files.append(File.generated(config, uri, content=_content(document)))
        if document.suffix == ".md":
            documents += [path for path in _linked(document) if files.get_file_from_path(_page(path)) is None]
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Leads the links of a document to the pages of the site."""
    document = _document(page.file.src_uri)

    def led(link: re.Match[str]) -> str:
        target = (document.parent / link[1]).resolve()
        if "://" in link[1] or not target.exists():
            return link[1]
        return posixpath.relpath(_page(target), posixpath.dirname(page.file.src_uri) or ".")

    return _LINK.sub(led, markdown) if document.suffix == ".md" else markdown


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """In a table a bar is escaped, in code, too; Python's Markdown leaves the escape there, others take it away."""
    return re.sub(r"<td[^>]*>.*?</td>", lambda cell: cell[0].replace("\\|", "|"), html)


def _linked(document: Path) -> Iterator[Path]:
    for link in _LINK.findall(document.read_text()):
        if (target := (document.parent / link).resolve()).exists() and "://" not in link:
            yield target


def _page(path: Path) -> str:
    """Where a file of the repository stands in the site."""
    relative = path.relative_to(ROOT)
    if relative.parts[0] == "docs":
        return posixpath.join(*relative.parts[1:])
    if relative == Path("README.md"):
        return "index.md"
    return (
        f"repository/{relative}"
        if path.suffix == ".md"
        else f"repository/{relative / 'index' if path.is_dir() else relative}.md"
    )


def _document(uri: str) -> Path:
    """The file of the repository that a page shows; the other way round than `_page`."""
    if uri == "index.md":
        return ROOT / "README.md"
    if not uri.startswith("repository/"):
        return ROOT / "docs" / uri
    path = ROOT / uri.removeprefix("repository/")
    return path if path.exists() else path.parent if path.name == "index.md" else path.with_suffix("")


def _content(path: Path) -> str:
    if path.suffix == ".md":
        return path.read_text()
    name = path.relative_to(ROOT)
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file() and "__pycache__" not in file.parts)
        return f"# {name}/\n\n" + "".join(f"- `{file.relative_to(path)}`\n" for file in files)
    return f"# {name}\n\n~~~~{_LANGUAGES.get(path.suffix, 'text')}\n{path.read_text()}\n~~~~\n"
