"""By whose certificates a server is known, and why one was not let through. What is told has no address in it: that of a
webhook may be a secret."""

from __future__ import annotations

import ssl
from pathlib import Path

import aiohttp

# Source: OpenSSL, x509_vfy.h: whose signature it has cannot be told; what it names is not the host, or not the address.
_UNKNOWN_AUTHORITY = frozenset({2, 18, 19, 20, 21})
_OTHER_NAME = frozenset({62, 64})


def trusting(ca_file: Path | None) -> ssl.SSLContext:
    """Trusts the authorities in a file, and these alone; left out: the system's, or what SSL_CERT_FILE or SSL_CERT_DIR
    names. They are read anew each time. Raises OSError, of which ssl.SSLError is one."""
    return ssl.create_default_context(cafile=ca_file)


def refusal(error: aiohttp.ClientSSLError, option: str) -> str:
    """What is wrong with a server's TLS, and the mend; `option` is where its authority can be named."""
    cause = error.__cause__
    if not isinstance(cause, ssl.SSLCertVerificationError):
        why = cause.reason if isinstance(cause, ssl.SSLError) else type(error).__name__
        return f"TLS with it fails ({why}): see that the address is of a port that serves https"
    if cause.verify_code in _OTHER_NAME:
        return "its certificate is of another name than the address: write a name that it is of, or renew it with this one"
    if cause.verify_code in _UNKNOWN_AUTHORITY:
        return f"its certificate is of no authority that is trusted ({cause.verify_message}): name that with {option}"
    return f"its certificate is refused ({cause.verify_message}): renew it"
