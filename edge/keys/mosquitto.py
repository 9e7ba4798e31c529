"""What mosquitto is told: listen with mutual TLS, know each device by its certificate, keep them apart."""

from __future__ import annotations

from edge.mqtt.topics import ROOT
from edge.site import Site

__all__ = ["FOLDER", "acl", "configuration"]

FOLDER = "/etc/mosquitto/scanwright"
"""Where the folder ``broker/`` goes on the machine with the broker."""


def configuration(site: Site) -> str:
    """``mosquitto.conf``, whole: for mosquitto 2.0 and later."""
    text = f"""\
# Broker of the site '{site.site}': made from SITE.yaml, to stand alone as mosquitto.conf.
# Every client proves itself by a certificate of the site; its name there is its user and its client id.
listener {site.broker.port}
tls_version tlsv1.2
cafile {FOLDER}/ca.pem
certfile {FOLDER}/certificate.pem
keyfile {FOLDER}/key.pem
crlfile {FOLDER}/crl.pem
require_certificate true
use_identity_as_username true
use_username_as_clientid true
allow_anonymous false
acl_file {FOLDER}/acl

# A message is at most a finding or a small overlay; what a receiver misses while it is away waits for it.
max_packet_size 1048576
max_inflight_messages 20
max_queued_messages 100000
max_queued_bytes 268435456
persistent_client_expiration 30d
persistence true
persistence_location /var/lib/mosquitto/
autosave_interval 60
"""
    return text + _bridge(site.site, site.broker.headquarters) if site.broker.headquarters else text


def _bridge(site: str, address: str) -> str:
    """What carts say goes up, what they are told comes down; both wait through weeks without a link."""
    own = f"{FOLDER}/headquarters"
    return f"""
connection headquarters
address {address}
bridge_tls_version tlsv1.2
bridge_cafile {own}/ca.pem
bridge_certfile {own}/certificate.pem
bridge_keyfile {own}/key.pem
remote_clientid {site}
local_clientid headquarters-bridge
cleansession false
notifications false
keepalive_interval 60
restart_timeout 5 300
topic {ROOT}/{site}/+/up/# out 1
topic {ROOT}/{site}/+/down/# in 1
"""


def acl(site: str, headquarters: str) -> str:
    """The access list: a device writes below its own ``up/`` and reads its own ``down/``, nothing else."""
    return f"""\
# %u is the name in the client's certificate.
pattern write {ROOT}/{site}/%u/up/#
pattern read {ROOT}/{site}/%u/down/#

user {headquarters}
topic read {ROOT}/{site}/+/up/#
topic write {ROOT}/{site}/+/down/#
"""
