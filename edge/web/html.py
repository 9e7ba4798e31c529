"""HTML built as a tree, so that nothing in it can be mistaken for markup."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias
from xml.etree.ElementTree import Element, tostring

__all__ = ["Child", "page", "tag"]

Child: TypeAlias = "Element | str | int | Iterable[Child] | None"


def tag(name: str, /, *children: Child, **attributes: str | int | bool | None) -> Element:
    """An element. Text among ``children`` stays text, None is left out, lists are taken apart. An attribute's
    trailing underscore is dropped and others become hyphens (``class_``, ``aria_label``); True stands for
    itself, None and False leave it out."""
    element = Element(name)
    for key, value in attributes.items():
        if value is not None and value is not False:
            written = key.rstrip("_").replace("_", "-")
            element.set(written, written if value is True else str(value))
    _fill(element, children)
    return element


def page(html: Element) -> str:
    """The document of a tree."""
    return "<!doctype html>\n" + tostring(html, encoding="unicode", method="html")


def _fill(element: Element, children: Iterable[Child]) -> None:
    for child in children:
        if child is None:
            continue
        if isinstance(child, Element):
            element.append(child)
        elif isinstance(child, str | int):
            if len(element):
                element[-1].tail = (element[-1].tail or "") + str(child)
            else:
                element.text = (element.text or "") + str(child)
        else:
            _fill(element, child)
