"""A site's gateway: mosquitto in a container, told everything by SITE.yaml and the site's keys."""

from __future__ import annotations

from pathlib import Path

import yaml

from edge.errors import BadInputError
from edge.files import write_durably
from edge.keys.folder import BROKER, HEADQUARTERS, KeyFolder
from edge.keys.mosquitto import FOLDER, acl, configuration
from edge.site import Site

__all__ = ["write_gateway"]

_IMAGE = "eclipse-mosquitto:2.0.22"
_FILES = ("ca.pem", "certificate.pem", "key.pem")


def write_gateway(site: Site, keys: KeyFolder, headquarters: Path | None, out: Path) -> None:
    """Write ``compose.yaml`` and ``mosquitto/`` into the folder ``out``; twice is as once.

    ``headquarters`` is a folder with ``ca.pem``, ``certificate.pem`` and ``key.pem`` that the headquarters
    gave this site for its broker.

    Raises:
        BadInputError: the keys are another site's, or the bridge lacks its certificate.
    """
    keys.check(site)
    if (headquarters is not None) != (site.broker.headquarters is not None):
        raise BadInputError(
            "broker.headquarters in SITE.yaml and --headquarters go together; give both or none"
        )
    sources = {name: keys.holder(BROKER) / name for name in (*_FILES, "crl.pem")}
    if headquarters is not None:
        sources |= {f"headquarters/{name}": headquarters / name for name in _FILES}
    folder = out / "mosquitto"
    try:
        files = {name: path.read_bytes() for name, path in sources.items()}
    except OSError as error:
        raise BadInputError(f"{error.filename}: cannot be read ({error.strerror})") from error
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            (folder / name).parent.mkdir(exist_ok=True)
            write_durably(folder / name, data, 0o600 if name.endswith("key.pem") else 0o644)
        write_durably(folder / "mosquitto.conf", configuration(site).encode(), 0o644)
        write_durably(folder / "acl", acl(site.site, HEADQUARTERS).encode(), 0o600)
        write_durably(out / "compose.yaml", _compose(site).encode(), 0o644)
    except OSError as error:
        raise BadInputError(f"{out}: cannot be written ({error.strerror})") from error


def _compose(site: Site) -> str:
    service = {
        "image": _IMAGE,
        "command": ["mosquitto", "-c", f"{FOLDER}/mosquitto.conf"],
        "restart": "unless-stopped",
        # It begins as root, which reads the keys, and goes on as mosquitto.
        "read_only": True,
        "cap_drop": ["ALL"],
        "cap_add": ["CHOWN", "DAC_OVERRIDE", "SETGID", "SETUID"],
        "security_opt": ["no-new-privileges:true"],
        "ports": [f"{site.broker.port}:{site.broker.port}"],
        "volumes": [f"./mosquitto:{FOLDER}:ro", "state:/var/lib/mosquitto"],
        "logging": {"driver": "local", "options": {"max-size": "10m", "max-file": "3"}},
    }
    document = {
        "name": f"scanwright-{site.site}",
        "services": {"mosquitto": service},
        "volumes": {"state": {}},
    }
    head = (
        "# Made by 'scanwright gateway' from SITE.yaml: change it there. Start: docker compose up --detach\n"
    )
    return head + yaml.safe_dump(document, sort_keys=False)
