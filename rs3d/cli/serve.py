"""`rs3d serve --config FILE`: the daemon as systemd starts it."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from rs3d.app.opening import MissingKey
from rs3d.app.sections import SCHEMA
from rs3d.config.loading import Configuration, load
from rs3d.daemon.startup import Launch, Serving, configured_credentials, run_daemon


def run(arguments: argparse.Namespace) -> int:
    path = Path(arguments.config)
    environment = os.environ

    def read_configuration() -> Configuration:
        return load(SCHEMA, path=path, environment=environment)

    launch = Launch(
        read_configuration=read_configuration,
        missing_key=MissingKey.REFUSE,
        root_credentials=lambda _, configuration: configured_credentials(environment, configuration),
        on_serving=_announce,
    )
    run_daemon(launch, environment)
    return 0


def _announce(serving: Serving) -> None:
    print(ready_line(serving), flush=True)


def ready_line(serving: Serving) -> str:
    """`rs3d ready http://HOST:PORT ops http://HOST:PORT`, with every address that is served."""
    addresses = [f"http://{address}" for address in serving.s3] + [f"https://{address}" for address in serving.s3_tls]
    addresses = addresses or ["nothing"]
    ops = [f"http://{address}" for address in serving.ops]
    return " ".join(["rs3d ready", *addresses, *(["ops", *ops] if ops else [])])
