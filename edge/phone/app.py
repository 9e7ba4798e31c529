"""The ``NAME-app`` folder: everything a phone fetches once, to be served by any https server."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

from edge import __version__
from edge.bundle.archive import Bundle
from edge.bundle.target import target
from edge.errors import BadInputError
from edge.mqtt.payloads import BundleRef
from edge.web.catalogue import languages

__all__ = ["POLICY", "app_files", "write_app"]

# wss to any broker: which one, the person who sets the phone up says. Plain ws only to the machine itself.
POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self' 'wasm-unsafe-eval'",
        "style-src 'self'",
        "img-src 'self' blob:",
        "media-src blob:",
        "connect-src 'self' wss: ws://localhost:* ws://127.0.0.1:*",
        "manifest-src 'self'",
        "worker-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
    ]
)
"""The content security policy of the page and, from the service worker, of every file."""

_HEADER_POLICY = f"{POLICY}; frame-ancestors 'none'"  # which a page cannot say of itself

_PACKAGE = files("edge.phone")
_WEB = files("edge.web")
_BUILT = ("app.js", "worker.js", "decode.js", "THIRD_PARTY.txt")
_LITERT = ("litert_wasm_compat_internal.js", "litert_wasm_compat_internal.wasm")
_PAGES = ("phone.css", "icon-192.png", "icon-512.png")
_MEMBERS = ("manifest.json", "model.tflite", "golden.npz", "ood.npz")


def app_files(bundle: Bundle) -> dict[str, bytes]:
    """Every file of the app, by its path in the folder; the same bundle gives the same bytes."""
    static = _PACKAGE / "static"
    pages = _PACKAGE / "pages"
    found = {name: (static / name).read_bytes() for name in _BUILT}
    found |= {f"litert/{name}": (static / "litert" / name).read_bytes() for name in _LITERT}
    found |= {name: (pages / name).read_bytes() for name in _PAGES}
    found |= {name: (_WEB / "static" / name).read_bytes() for name in ("style.css", "icon.svg")}
    found |= {f"texts/{code}.json": (_WEB / "texts" / f"{code}.json").read_bytes() for code in languages()}
    found |= {f"model/{name}": bundle.member(name) for name in _MEMBERS if name in bundle.names}
    page = (pages / "index.html").read_text(encoding="utf-8")
    found["index.html"] = page.replace("CONTENT_SECURITY_POLICY", POLICY).encode()
    found["app.webmanifest"] = _webmanifest(bundle.manifest.name)
    found["app.json"] = _description(bundle, _hashes(found))
    found["sw.js"] = _service_worker((static / "sw.js").read_text(encoding="utf-8"), _hashes(found))
    return found


def write_app(bundle: Bundle, out: Path) -> Path:
    """Write the folder ``NAME-app`` in ``out``, all or nothing; an earlier one is replaced.

    Raises:
        BadInputError: there is something else of that name, or it cannot be written.
    """
    folder = out / f"{bundle.manifest.name}-app"
    if folder.exists() and not (folder / "app.json").is_file():
        raise BadInputError(f"{folder}: is there already and is no phone app; move it away")
    try:
        temporary = Path(tempfile.mkdtemp(dir=out, prefix=f".{folder.name}."))
        try:
            for name, data in app_files(bundle).items():
                path = temporary / name
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(data)
            temporary.chmod(0o755)
            if folder.exists():
                shutil.rmtree(folder)
            temporary.replace(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise BadInputError(f"{folder}: cannot be written ({error.strerror})") from error
    return folder


def _hashes(found: Mapping[str, bytes]) -> dict[str, str]:
    return {name: hashlib.sha256(found[name]).hexdigest() for name in sorted(found)}


def _webmanifest(name: str) -> bytes:
    png = [
        {"src": f"icon-{side}.png", "sizes": f"{side}x{side}", "type": "image/png", "purpose": "any maskable"}
        for side in (192, 512)
    ]
    described = {
        "name": f"scanwright {name}",
        "short_name": name,
        "description": "Decision support, not a medical device.",
        "id": f"scanwright-{name}",
        "start_url": "./",
        "scope": "./",
        "display": "standalone",
        "background_color": "#0a0d11",
        "theme_color": "#0a0d11",
        "icons": [{"src": "icon.svg", "sizes": "any", "type": "image/svg+xml"}, *png],
    }
    return _json(described)


def _description(bundle: Bundle, hashes: Mapping[str, str]) -> bytes:
    manifest = bundle.manifest
    phone = target("phone")
    used = BundleRef(
        name=manifest.name,
        version=manifest.version,
        sha256=bundle.sha256,
        target=manifest.target,
        signed=False,
    )
    return _json(
        {
            "version": __version__,
            "interpreter": f"{phone.interpreter} {phone.interpreter_version}",
            "made": manifest.provenance.created,
            "bundle": used.model_dump(mode="json"),
            "files": hashes,
        }
    )


def _service_worker(text: str, hashes: Mapping[str, str]) -> bytes:
    listed = json.dumps(hashes, indent=1)
    # Its name changes with any file, so an app is kept whole or not at all.
    digest = hashlib.sha256(f"{text}{listed}{_HEADER_POLICY}".encode()).hexdigest()[:16]
    head = [f"const LIST = {json.dumps(digest)};", f"const FILES = {listed};"]
    return "\n".join([*head, f"const POLICY = {json.dumps(_HEADER_POLICY)};", text]).encode()


def _json(data: object) -> bytes:
    return json.dumps(data, indent=1, ensure_ascii=False).encode() + b"\n"
