"""Make a chart's SVG fit to stand inside a page: named, described, with colours a page can change.

Matplotlib writes a document of its own: with a prologue, metadata, names that repeat from chart to
chart, and literal colours. Here these are taken off, and each colour of the palette becomes a
variable of the page that falls back to the literal one.
"""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

SVG = "http://www.w3.org/2000/svg"
XLINK = "{http://www.w3.org/1999/xlink}href"
FONT = re.compile(r"font-family: [^;]*; ")
SHORT_FONT = re.compile(r"font: (?:(?P<weight>bold|[0-9]{3}) )?(?P<size>[0-9.]+)px [^;]*")
UNTURNED = re.compile(r"rotate\(-?0 [^)]*\)")
REFERENCE = re.compile(r"#(?P<name>[A-Za-z_][\w.-]*)")


def embedded(text: str, name: str, title: str, description: str, colours: dict[str, str]) -> str:
    """Give the ``<svg>`` element of a chart for a page in which no other is called ``name``.

    ``colours`` maps literal colours, in small letters, to the names of the page's variables; with
    none they stay literal, which is what some makers of PDF need.
    """
    root = ET.fromstring(text)  # noqa: S314 - written by the drawing library a moment ago
    for parent in list(root.iter()):
        for child in list(parent):
            if _local(child.tag) in {"metadata", "title", "desc"}:
                parent.remove(child)
    kept = _referenced(root)
    for element in root.iter():
        element.tag = _local(element.tag)
        _rename(element, name, kept)
        if (style := element.get("style")) is not None:
            element.set("style", _styled(style, colours))
    _describe(root, name, title, description)
    for group in root.iter():
        if group.text is not None and not group.text.strip():
            group.text = None
        if group.tail is not None and not group.tail.strip():
            group.tail = None
    return ET.tostring(root, encoding="unicode")


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]


def _referenced(root: ET.Element) -> set[str]:
    """Give the names that something in the chart points to."""
    found: set[str] = set()
    for element in root.iter():
        for key, value in element.attrib.items():
            if key == XLINK or "url(" in value:
                found.update(match["name"] for match in REFERENCE.finditer(value))
    return found


def _rename(element: ET.Element, name: str, kept: set[str]) -> None:
    """Put the chart's name before names that are pointed to; drop those that are not."""
    own = element.attrib.pop("id", None)
    if own in kept:
        element.set("id", f"{name}-{own}")
    target = element.attrib.pop(XLINK, None)
    if target is not None:
        element.set("href", f"#{name}-{target[1:]}")
    if UNTURNED.fullmatch(element.get("transform", "")):
        del element.attrib["transform"]
    for key, value in element.attrib.items():
        if "url(#" in value:
            element.set(key, value.replace("url(#", f"url(#{name}-"))


def _styled(style: str, colours: dict[str, str]) -> str:
    """Take the font's name away, so that the page's counts, and name the colours."""
    style = FONT.sub("", SHORT_FONT.sub(_sized, style))
    for literal, variable in colours.items():
        style = style.replace(literal, f"var(--{variable}, {literal})")
    return style


def _sized(font: re.Match[str]) -> str:
    weight = f"font-weight: {font['weight']}; " if font["weight"] else ""
    return f"{weight}font-size: {font['size']}px"


def _describe(root: ET.Element, name: str, title: str, description: str) -> None:
    for attribute in ("width", "height", "version"):
        root.attrib.pop(attribute, None)
    root.set("xmlns", SVG)
    root.set("class", "chart")
    root.set("role", "img")
    root.set("aria-labelledby", f"{name}-title {name}-desc")
    for i, (tag, said) in enumerate((("title", title), ("desc", description))):
        element = ET.Element(tag, {"id": f"{name}-{tag}"})
        element.text = said
        root.insert(i, element)
