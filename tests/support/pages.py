"""Pages of reports, parsed back from their HTML."""

from __future__ import annotations

from html.parser import HTMLParser


class Page(HTMLParser):
    """A page's tags with attributes, its text, its tables by caption, and the text of each section by its heading."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.text = ""
        self.tables: dict[str, list[list[str]]] = {}
        self.sections: dict[str, str] = {}
        self._open: list[str] = []
        self._caption = self._title = ""
        self.feed(str(page))

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._open.append(tag)
        if tag == "caption":
            self._caption = ""
        if tag == "h2":
            self._title = ""
        if tag == "tr":
            self.tables.setdefault(self._caption, []).append([])
        if tag in ("td", "th"):
            self.tables[self._caption][-1].append("")

    def handle_endtag(self, tag):
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data):
        self.text += data
        if "caption" in self._open:
            self._caption += data
        elif "td" in self._open or "th" in self._open:
            self.tables[self._caption][-1][-1] += data
        elif "h2" in self._open:
            self._title += data
        self.sections[self._title] = self.sections.get(self._title, "") + data

    def all(self, tag: str) -> list[dict]:
        """The attributes of every tag of a name."""
        return [attributes for name, attributes in self.tags if name == tag]

    def table(self, start: str) -> dict[str, dict[str, str]]:
        """Cells of the one table whose caption begins with ``start``, by row, then by column."""
        (rows,) = [rows for caption, rows in self.tables.items() if caption.startswith(start)]
        return {row[0]: dict(zip(rows[0][1:], row[1:], strict=True)) for row in rows[1:]}

    def needs(self) -> list[str]:
        """Addresses that the page would load, and tags that would load or run something."""
        addresses = [
            attributes[key]
            for _, attributes in self.tags
            for key in ("src", "href", "xlink:href")
            if not attributes.get(key, "#").startswith(("data:", "#"))
        ]
        return addresses + [tag for tag, _ in self.tags if tag in ("script", "link", "iframe", "object")]
