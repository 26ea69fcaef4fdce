"""`rs3d mini DIR`: the same processes as `rs3d serve`, with a generated configuration and everything inside DIR."""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from collections.abc import MutableMapping
from pathlib import Path
from typing import Final

from rs3d import __version__
from rs3d.app import rootcredentials
from rs3d.app.opening import MissingKey
from rs3d.app.rootcredentials import RootCredentials
from rs3d.app.sections import SCHEMA
from rs3d.cli.serve import ready_line
from rs3d.config.loading import Configuration, Override, load
from rs3d.daemon.startup import Launch, Serving, run_daemon
from rs3d.errors import ConfigurationError

CREDENTIALS_FILE: Final = "root.credentials"
MASTER_KEY_FILE: Final = "master.key"


def run(arguments: argparse.Namespace) -> int:
    if arguments.ephemeral == (arguments.directory is not None):
        reason = "give a directory, or --ephemeral for a temporary one"
        raise ConfigurationError(source="rs3d mini", key="DIR", reason=reason)
    if not arguments.ephemeral:
        _run_in(Path(arguments.directory).absolute(), arguments)
        return 0
    directory = Path(tempfile.mkdtemp(prefix="rs3d-"))
    try:
        _run_in(directory, arguments)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return 0


def _run_in(directory: Path, arguments: argparse.Namespace) -> None:
    environment = os.environ
    launch = Launch(
        read_configuration=lambda: generated_configuration(directory, arguments, environment),
        missing_key=MissingKey.MAKE,
        root_credentials=lambda root, _: mini_credentials(root, environment),
        on_serving=_announce,
    )
    run_daemon(launch, environment)


def generated_configuration(
    directory: Path, arguments: argparse.Namespace, environment: MutableMapping[str, str]
) -> Configuration:
    """What a file for `rs3d serve` would say; environment variables still count, except where mini decides."""
    overrides = [
        Override("storage.root", str(directory), "rs3d mini DIR"),
        Override("keys.master_file", str(directory / MASTER_KEY_FILE), "rs3d mini DIR"),
        Override("admin.socket", str(directory / "admin.sock"), "rs3d mini DIR"),
        # It listens on the loopback address unless told otherwise, where nobody reads along.
        Override("s3.customer_keys", "any", "rs3d mini DIR"),
    ]
    if arguments.listen:
        overrides.append(Override("server.listen", list(arguments.listen), "--listen"))
    if arguments.ops_listen:
        overrides.append(Override("ops.listen", list(arguments.ops_listen), "--ops-listen"))
    if arguments.workers is not None:
        overrides.append(Override("daemon.workers", arguments.workers, "--workers"))
    return load(SCHEMA, environment=environment, overrides=overrides)


def mini_credentials(root: Path, environment: MutableMapping[str, str]) -> RootCredentials:
    """Root's key from the environment, from DIR/root.credentials, or made now and written there."""
    given = rootcredentials.from_environment(environment)
    if given is not None:
        return given
    path = root / CREDENTIALS_FILE
    if path.exists():
        return rootcredentials.from_file(path)
    credentials = rootcredentials.generate(str(path))
    rootcredentials.write_new(path, credentials)
    return credentials


def _announce(serving: Serving) -> None:
    host = (serving.s3 or serving.s3_tls)[0]
    scheme = "http" if serving.s3 else "https"
    endpoint = f"{scheme}://{host}"
    ssl = "--no-ssl" if serving.s3 else "--ssl"
    lines = [
        f"rs3d {__version__} serves {serving.root} at {endpoint}",
        "",
        *_export_lines(serving.credentials),
        "export AWS_DEFAULT_REGION=us-east-1",
        f"export AWS_ENDPOINT_URL={endpoint}",
        "",
        f"aws --endpoint-url {endpoint} s3 mb s3://first-bucket",
        f"s3cmd --host={host} --host-bucket={host} {ssl} "
        '--access_key="$AWS_ACCESS_KEY_ID" --secret_key="$AWS_SECRET_ACCESS_KEY" ls',
        f"rs3d status --data {serving.root}",
        "",
        ready_line(serving),
    ]
    print("\n".join(lines), flush=True)


def _export_lines(credentials: RootCredentials | None) -> list[str]:
    """Keys from DIR/root.credentials are shown, ones the caller gave are not repeated."""
    if credentials is None:
        return []
    if credentials.source.startswith("environment"):
        return [
            f'export AWS_ACCESS_KEY_ID="${rootcredentials.ACCESS_VARIABLE}"',
            f'export AWS_SECRET_ACCESS_KEY="${rootcredentials.SECRET_VARIABLE}"',
        ]
    return [
        f"export AWS_ACCESS_KEY_ID={credentials.access_key}",
        f"export AWS_SECRET_ACCESS_KEY={credentials.secret_key}",
    ]
