"""The label on a cart: its name, and codes that join its Wi-Fi and open its screen (SVG, to be printed)."""

from __future__ import annotations

import io
from xml.sax.saxutils import escape

import segno
from segno import helpers

from edge.site import Cart, Site
from trainer.flashing.cart import SCREEN_PORT, wifi_name

__all__ = ["label"]


def label(site: Site, cart: Cart, password: str) -> bytes:
    """An SVG of 90 x 55 mm for a cart with its own Wi-Fi; it shows the passphrase."""
    address = f"http://{cart.network.access_point_address.ip}:{SCREEN_PORT}/"
    codes = (
        (helpers.make_wifi(wifi_name(cart), password, "WPA"), 5, f"1. Wi-Fi {wifi_name(cart)}", password),
        (segno.make(address, micro=False), 50, "2. Screen", address),
    )
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" width="90mm" height="55mm" viewBox="0 0 90 55">',
        '<rect width="90" height="55" fill="#fff"/><g font-family="sans-serif" fill="#000">',
        f'<text x="5" y="7" font-size="4.5" font-weight="bold">{escape(cart.device)}</text>',
        f'<text x="85" y="7" font-size="3" text-anchor="end">{escape(site.title or site.site)}</text>',
    ]
    for code, left, title, text in codes:
        held = io.BytesIO()
        code.save(held, kind="svg", xmldecl=False, svgns=False, border=2, omitsize=True, light="#fff")
        side = code.symbol_size(border=2)[0]
        parts += [
            f'<svg x="{left}" y="9" width="35" height="35" viewBox="0 0 {side} {side}">'
            f"{held.getvalue().decode()}</svg>",
            f'<text x="{left}" y="47" font-size="3">{escape(title)}</text>',
            f'<text x="{left}" y="51" font-size="2.6" font-family="monospace">{escape(text)}</text>',
        ]
    parts.append(
        '<text x="5" y="54" font-size="2">Decision support; not a medical device.</text></g></svg>\n'
    )
    return "".join(parts).encode()
