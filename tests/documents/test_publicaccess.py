"""Public access block and ownership controls: read strictly, written as S3 writes them."""

from __future__ import annotations

import pytest

from rs3d.documents.errors import MalformedXML
from rs3d.documents.publicaccess import OwnershipControls, PublicAccessBlock
from rs3d.errors import NotImplementedHere


def test_flags_come_back_as_they_went_in() -> None:
    block = PublicAccessBlock(True, False, True, False)
    assert PublicAccessBlock.parse(block.render()) == block


def test_a_flag_that_is_not_given_is_false() -> None:
    body = b"<PublicAccessBlockConfiguration><IgnorePublicAcls>TRUE</IgnorePublicAcls></PublicAccessBlockConfiguration>"
    assert PublicAccessBlock.parse(body) == PublicAccessBlock(ignore_public_acls=True)


@pytest.mark.parametrize(
    "body",
    [
        b"<PublicAccessBlockConfiguration><Other>true</Other></PublicAccessBlockConfiguration>",
        b"<PublicAccessBlockConfiguration><BlockPublicAcls>2</BlockPublicAcls></PublicAccessBlockConfiguration>",
        b"<Else/>",
        b"",
    ],
)
def test_anything_else_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedXML):
        PublicAccessBlock.parse(body)


def _ownership(text: str) -> bytes:
    return f"<OwnershipControls><Rule><ObjectOwnership>{text}</ObjectOwnership></Rule></OwnershipControls>".encode()


def test_the_one_ownership_is_taken_and_shown() -> None:
    controls = OwnershipControls.parse(_ownership("BucketOwnerEnforced"))
    assert OwnershipControls.parse(controls.render()) == controls


def test_other_ownerships_are_not_built_and_unknown_ones_malformed() -> None:
    with pytest.raises(NotImplementedHere):
        OwnershipControls.parse(_ownership("ObjectWriter"))
    with pytest.raises(MalformedXML):
        OwnershipControls.parse(_ownership("Nobody"))
