"""TLS contexts from configured files or systemd credentials, read anew at each reload."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path

from rs3d.app.sections import ServerConfig
from rs3d.errors import ConfigurationError


def load_certificates(server: ServerConfig, environment: Mapping[str, str]) -> ssl.SSLContext | None:
    """A server context with the configured certificate, or None when there is none. Blocking.

    Raises:
        ConfigurationError: a file cannot be read, or certificate and key do not belong together.
    """
    if server.tls_certificate is None or server.tls_key is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    certificate = credential_path(server.tls_certificate, environment)
    key = credential_path(server.tls_key, environment)
    try:
        context.load_cert_chain(certificate, key, password=_refuse_password)
    except (OSError, ssl.SSLError, ValueError) as error:
        reason = f"cannot use {certificate} with {key}: {error}"
        raise ConfigurationError(source="server", key="tls_certificate", reason=reason) from None
    return context


def credential_path(path: Path, environment: Mapping[str, str]) -> Path:
    """A bare name is that of a systemd credential, if there is one; anything else is a path."""
    directory = environment.get("CREDENTIALS_DIRECTORY")
    if directory and len(path.parts) == 1 and Path(directory, path).exists():
        return Path(directory, path)
    return path


def _refuse_password() -> str:
    # Without this OpenSSL would ask on the terminal, and a daemon would wait there for ever.
    raise ValueError("the key is protected by a passphrase; give an unprotected one, as a credential or in a 0600 file")
