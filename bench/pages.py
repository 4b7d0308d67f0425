"""Pages of tables and pictures from a Markdown template: for the terminal, as files, and as one HTML file."""

from __future__ import annotations

import base64
import html
import re
import string
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from model import files

INSTALL_MATPLOTLIB = "None: matplotlib is not installed; pip install 'instruct-musicgen-mlx[bench]'."
PLAIN_TEXT = ["autolink", "backticks", "emphasis", "entity", "escape", "html_inline", "link"]
"""Markdown that no page uses: a clip or a model may be called `a*b*`."""


@dataclass
class Page:
    """A page in Markdown, its pictures as PNG by name, and the name of its files."""

    name: str
    text: str
    pictures: dict[str, bytes] = field(default_factory=dict)

    def without_pictures(self) -> str:
        """Return the page for a terminal: sections that show a picture are left out."""
        return re.sub(r"^## (?:(?!^## ).)*?^!\[(?:(?!^## ).)*", "", self.text, flags=re.DOTALL | re.MULTILINE)

    def html(self) -> str:
        """Return the page as one file, pictures inside."""
        from markdown_it import MarkdownIt

        body = MarkdownIt("commonmark", {"html": False}).enable("table").disable(PLAIN_TEXT).render(self.text)
        for name, png in self.pictures.items():
            data = base64.b64encode(png).decode()
            body = body.replace(f'src="{name}"', f'src="data:image/png;base64,{data}"')
        title = self.text.partition("\n")[0].removeprefix("# ")
        template = string.Template(Path(__file__).with_name("page.html").read_text(encoding="utf-8"))
        return template.substitute(title=html.escape(title), body=body)

    def save(self, folder: Path, data: str) -> list[Path]:
        """Write NAME.md, NAME.html, NAME.json and the pictures. Raises UserError if one can't be: then none is."""
        out: dict[Path, str | bytes] = {
            folder / f"{self.name}.md": self.text,
            folder / f"{self.name}.html": self.html(),
            folder / f"{self.name}.json": data,
        }
        return files.write_whole(out | {folder / name: png for name, png in self.pictures.items()})


def render(template: Path, **values: Any) -> str:
    """Fill in a jinja2 template of Markdown: paragraphs become one line, tables stay, one blank line between all."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(template.parent), undefined=jinja2.StrictUndefined, autoescape=False
    )
    text = environment.get_template(template.name).render(values)
    blocks = [block.strip() for block in re.split(r"\n\s*\n", text)]
    return "\n\n".join(b if b.startswith("|") else " ".join(b.split()) for b in blocks if b) + "\n"
