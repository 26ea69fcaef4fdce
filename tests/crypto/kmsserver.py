"""moto's KMS as a process of its own, with what AWS enforces and moto does not. Runs in moto's environment.

Prints one line of JSON when it serves: port, and two access keys with their secrets, of which the first may use KMS.
Signatures are checked. `POST /outage` with `on` or `off` makes it answer 503 to everything else, as a service in
trouble does; `POST /remove` with a key's id removes the key at once.
"""

import json
from typing import Any

from moto import settings
from moto.core.exceptions import JsonRESTError
from moto.iam.models import iam_backends
from moto.kms.models import KmsBackend, kms_backends
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

ACCOUNT = "123456789012"
POLICY = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "kms:*", "Resource": "*"}]}

_encrypt, _decrypt = KmsBackend.encrypt, KmsBackend.decrypt


def _require_usable(backend: Any, key_id: str) -> None:
    key = backend.keys[backend.any_id_to_key_id(key_id)]
    if key.key_state == "Disabled":
        raise JsonRESTError("DisabledException", f"{key.arn} is disabled.")
    if key.key_state != "Enabled":
        raise JsonRESTError("KMSInvalidStateException", f"{key.arn} is pending deletion.")


def encrypt(self: Any, key_id: str, plaintext: bytes, encryption_context: dict[str, str]) -> Any:
    _require_usable(self, key_id)
    return _encrypt(self, key_id, plaintext, encryption_context)


def decrypt(self: Any, ciphertext_blob: bytes, encryption_context: dict[str, str], key_id: Any = None) -> Any:
    _require_usable(self, key_id)
    plaintext, arn = _decrypt(self, ciphertext_blob, encryption_context)
    if arn != self.keys[self.any_id_to_key_id(key_id)].arn:
        raise JsonRESTError(
            "IncorrectKeyException", "The key ID in the request does not identify a key that can do it."
        )
    return plaintext, arn


class Operated:
    """Passes requests on, unless there is an outage; takes the operator's requests itself."""

    def __init__(self, application: Any) -> None:
        self.application = application
        self.is_out = False

    def __call__(self, environ: Any, start_response: Any) -> Any:
        if environ["PATH_INFO"] in ("/outage", "/remove"):
            told = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])).decode()
            if environ["PATH_INFO"] == "/outage":
                self.is_out = told == "on"
            else:
                del kms_backends[ACCOUNT]["us-east-1"].keys[told]
            start_response("204 No Content", [])
            return [b""]
        if self.is_out:
            start_response("503 Service Unavailable", [("Content-Type", "text/plain")])
            return [b"out of service"]
        return self.application(environ, start_response)


def main() -> None:
    KmsBackend.encrypt, KmsBackend.decrypt = encrypt, decrypt
    iam = iam_backends[ACCOUNT]["aws"]
    keys = []
    for user in ("rs3d", "stranger"):
        iam.create_user("us-east-1", user)
        keys.append(iam.create_access_key(user))
    iam.put_user_policy("rs3d", "kms", json.dumps(POLICY))
    settings.INITIAL_NO_AUTH_ACTION_COUNT = 0
    application = Operated(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, application, threaded=True)
    told = {"port": server.server_port, "keys": [[key.access_key_id, key.secret_access_key] for key in keys]}
    print(json.dumps(told), flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
