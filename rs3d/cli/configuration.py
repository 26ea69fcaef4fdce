"""`rs3d config check|show`."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

from rs3d.app.sections import SCHEMA, ServerConfig
from rs3d.app.tlscertificates import load_certificates
from rs3d.cli.main import EXIT_CONFIGURATION
from rs3d.cli.output import print_table
from rs3d.config.loading import load
from rs3d.errors import ConfigurationError


def run(arguments: argparse.Namespace) -> int:
    path = Path(arguments.config) if arguments.config else None
    try:
        configuration = load(SCHEMA, path=path, environment=os.environ)
        load_certificates(configuration.get(ServerConfig), os.environ)
    except ConfigurationError as error:
        if arguments.verb == "check" and arguments.json:
            told = {"source": error.source, "key": error.key, "reason": error.reason}
            print(json.dumps({"valid": False, "error": told}))
            return EXIT_CONFIGURATION
        raise
    if arguments.verb == "check":
        print(json.dumps({"valid": True}) if arguments.json else f"{path or 'defaults and environment'}: valid")
        return 0
    settings = configuration.settings()
    if arguments.json:
        rows = [{"section": s.section, "key": s.key, "value": s.value, "source": s.source} for s in settings]
        print(json.dumps(rows, indent=2))
        return 0
    print_table(["setting", "value", "source"], [[f"{s.section}.{s.key}", s.value, s.source] for s in settings])
    return 0
