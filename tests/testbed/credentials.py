"""Keys, tokens and kubeconfigs."""

from __future__ import annotations

import json
import secrets
from pathlib import Path

from testbed.layout import (
    ADMIN_KUBECONFIG,
    API_INSIDE,
    API_OUTSIDE,
    API_SERVICE_ADDRESS,
    CONTROL_PLANE,
    NOBODY_KUBECONFIG,
    NODE_KUBECONFIG,
    PKI,
)
from testbed.shell import run

API_CERTIFICATE = PKI / "api.crt"
API_KEY = PKI / "api.key"
SERVICE_ACCOUNT_KEY = PKI / "service-accounts.key"
TOKENS = PKI / "tokens.csv"

_CURVE = "prime256v1"  # made in milliseconds, which RSA keys are not


def make() -> None:
    PKI.mkdir(parents=True, mode=0o700)
    names = f"IP:127.0.0.1,IP:{CONTROL_PLANE.address},IP:{API_SERVICE_ADDRESS},DNS:kubernetes.default.svc"
    key = ("-newkey", "ec", "-pkeyopt", f"ec_paramgen_curve:{_CURVE}", "-nodes", "-keyout", API_KEY)
    subject = ("-subj", "/CN=chaosd-testbed", "-addext", f"subjectAltName={names}", "-days", "365")
    run("openssl", "req", "-x509", *key, *subject, "-out", API_CERTIFICATE)
    run("openssl", "ecparam", "-name", _CURVE, "-genkey", "-noout", "-out", SERVICE_ACCOUNT_KEY)
    admin, nobody = secrets.token_hex(16), secrets.token_hex(16)
    TOKENS.write_text(f'{admin},admin,admin,"system:masters"\n{nobody},nobody,nobody\n')
    write_kubeconfig(ADMIN_KUBECONFIG, admin)
    write_kubeconfig(NOBODY_KUBECONFIG, nobody)
    write_kubeconfig(NODE_KUBECONFIG, admin, API_INSIDE)


def write_kubeconfig(path: Path, token: str, server: str = API_OUTSIDE) -> None:
    """Writes JSON, which is YAML too."""
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "testbed", "cluster": {"server": server, "certificate-authority": str(API_CERTIFICATE)}}],
        "users": [{"name": "user", "user": {"token": token}}],
        "contexts": [{"name": "testbed", "context": {"cluster": "testbed", "user": "user"}}],
        "current-context": "testbed",
    }
    path.touch(mode=0o600)
    path.write_text(json.dumps(document, indent=2) + "\n")
