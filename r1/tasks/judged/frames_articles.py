"""The Wikipedia articles that FRAMES' questions are to be answered from.

They are not part of the data set, which has their addresses: the user supplies them, as
a folder of text files named like the end of the address (`James_Buchanan.txt`), or as
JSON Lines with `url`, `text` and optionally `title`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import unquote

from r1.tasks.row_files import read_rows
from r1.tasks.task import TaskError, first_of

NO_ARTICLES = "no articles: the prompts have their addresses alone"


def frames_context(links: Sequence[Sequence[str]], articles: str | None) -> list[str]:
    """What each question's prompt says of its articles: their texts, or without them the links.

    Raises TaskError when an article is missing, with how many and the first of them.
    """
    if articles is None:
        return [str(list(group)) for group in links]
    find = _open_articles(Path(articles).expanduser())
    texts = {link: find(article_key(link)) for group in links for link in group}
    missing = [link for link, text in texts.items() if text is None]
    if missing:
        raise TaskError(
            f"{articles}: {len(missing)} of {len(texts)} articles are missing, first "
            f"{first_of(missing)}; leave options.articles out to give "
            "the addresses alone"
        )
    return ["\n\n".join(str(texts[link]) for link in group) for group in links]


def article_key(link: str) -> str:
    """What names an article: the end of its address, decoded, without a section."""
    return unquote(link).partition("#")[0].rstrip("/").rpartition("/")[2].replace(" ", "_")


def _open_articles(path: Path) -> Callable[[str], str | None]:
    if path.is_dir():
        files = {file.stem: file for file in path.iterdir() if file.suffix in (".txt", ".md")}

        def read(key: str) -> str | None:
            file = files.get(key) or files.get(key.replace("/", "_"))
            return None if file is None else file.read_text(encoding="utf-8").strip()

        return read
    texts: dict[str, str] = {}
    for row in read_rows(path):
        url, text = row.data.get("url"), row.data.get("text")
        if not isinstance(url, str) or not isinstance(text, str):
            raise TaskError(f"{row.location}: an article needs the texts url and text")
        title = row.data.get("title") or article_key(url).replace("_", " ")
        texts[article_key(url)] = f"{title}\n{text.strip()}"
    return texts.get
