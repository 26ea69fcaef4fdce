"""`rs3d verify`: an object in a served store, or a proof in a file, which needs no store."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

import msgspec

from rs3d.admin.protocol import JsonValue
from rs3d.cli import remote
from rs3d.cli.output import print_json, print_result
from rs3d.errors import InvalidArgument
from rs3d.services.proofs import Proof, check_proof, parse_public_key

PROOF_LIMIT_BYTES: Final = 1 << 20


def run(arguments: argparse.Namespace) -> int:
    if not arguments.proof:
        if not arguments.bucket or not arguments.key:
            raise InvalidArgument(name="verify", value="", reason="name BUCKET and KEY, or give --proof FILE")
        if arguments.block:
            raise InvalidArgument(name="block", value=arguments.block, reason="goes with --proof")
        return remote.run(arguments)
    if arguments.bucket:
        raise InvalidArgument(name="proof", value=arguments.proof, reason="names its object itself")
    public = parse_public_key(arguments.public_key)
    proof = read_proof(Path(arguments.proof))
    block = read_block(Path(arguments.block), proof.length) if arguments.block else None
    check_proof(proof, public, block)
    answer: dict[str, JsonValue] = {
        "proof": "valid",
        "bucket": proof.bucket,
        "key": proof.key,
        "version": proof.version,
        "merkle_root": proof.merkle_root,
        "offset": proof.offset,
        "length": proof.length,
        "part_number": proof.part_number,
        "block": "matches" if block is not None else "not given",
        "signature": "valid" if public else "not checked",
    }
    if arguments.json:
        print_json(answer)
    else:
        print_result(answer)
    return 0


def read_proof(path: Path) -> Proof:
    """The proof in a file, as `rs3d proof --json` printed it.

    Raises:
        InvalidArgument
    """
    try:
        with path.open("rb") as file:
            return msgspec.json.decode(file.read(PROOF_LIMIT_BYTES), type=Proof)
    except (OSError, msgspec.MsgspecError, UnicodeError) as error:
        raise InvalidArgument(name="proof", value=str(path), reason=str(error).replace("`", "")) from None


def read_block(path: Path, length: int) -> bytes:
    """The block from a file of its own; one byte more than it should have tells a longer file.

    Raises:
        InvalidArgument
    """
    try:
        with path.open("rb") as file:
            return file.read(length + 1)
    except OSError as error:
        raise InvalidArgument(name="block", value=str(path), reason=str(error)) from None
