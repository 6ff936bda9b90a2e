"""The markup of MediaWiki -> plain text, by mwparserfromhell: without templates, tables, references, files."""

from __future__ import annotations

import re
from typing import Any

# Content of these elements is no running text.
_LEFT_OUT = frozenset(
    (
        "table",
        "ref",
        "gallery",
        "math",
        "chem",
        "score",
        "timeline",
        "imagemap",
        "references",
        "syntaxhighlight",
    )
) | frozenset(("graph", "mapframe", "maplink", "templatestyles", "hiero", "categorytree"))
# Links to pictures and categories, as the larger Wikipedias write them.
_FILES = re.compile(
    r"\s*:?\s*(?:file|image|category|media|datei|bild|kategorie|fichier|catégorie|archivo|imagen|categoría|categoria|"
    r"ficheiro|imagem|immagine|bestand|afbeelding|categorie|plik|grafika|kategoria|файл|изображение|категория|картинка|"
    r"ファイル|画像|カテゴリ|文件|档案|檔案|图像|圖像|分类|分類|ملف|صورة|تصنيف|파일|그림|분류)\s*:",
    re.IGNORECASE,
)
# A page's name in another language: shown beside the text, not in it.
_LANGUAGE = re.compile(r"[a-z]{2,3}(?:-[a-z]{2,})*:\S")
_MAGIC = re.compile(r"__[A-Z]{3,}__")
_BLANK_LINES = re.compile(r"\n\s*\n\s*")
_BLANKS = re.compile(r"[ \t]{2,}")
_AT_ENDS = re.compile(r"^[ \t]+|[ \t]+$", re.MULTILINE)
# What templates and references leave: brackets around nothing.
_EMPTY = re.compile(r"[ \t]?\(\s*[;,:–-]?\s*\)")


def plain_text(markup: str) -> str:
    """Paragraphs, headings and list items of a page, a blank line between paragraphs."""
    import mwparserfromhell

    parts: list[str] = []
    _collect(mwparserfromhell.parse(markup, skip_style_tags=True), parts)
    text = _MAGIC.sub("", "".join(parts).replace("'''", "").replace("''", ""))
    text = _EMPTY.sub("", text)
    return _BLANK_LINES.sub("\n\n", _AT_ENDS.sub("", _BLANKS.sub(" ", text))).strip()


def _collect(code: Any, parts: list[str]) -> None:
    """What of parsed markup is text; templates, comments and what `_LEFT_OUT` names are none."""
    for node in code.nodes:
        match type(node).__name__:
            case "Text":
                parts.append(node.value)
            case "Wikilink":
                title = str(node.title)
                if not (_FILES.match(title) or _LANGUAGE.match(title)):
                    _collect(node.title if node.text is None else node.text, parts)
            case "ExternalLink":
                if node.title is not None:
                    _collect(node.title, parts)
            case "Tag":
                if str(node.tag).strip().lower() not in _LEFT_OUT and node.contents is not None:
                    _collect(node.contents, parts)
            case "Heading":
                _collect(node.title, parts)
            case "HTMLEntity":
                parts.append(node.normalize())
            case "Argument":
                if node.default is not None:
                    _collect(node.default, parts)
