"""`rs3d scrub start|pause|resume|status`."""

from __future__ import annotations

import msgspec

from rs3d.admin.server import Reporter, Verb, verb
from rs3d.services.scrub import ScrubService
from rs3d.services.scrubreport import ProblemRow, ScrubBoard, ScrubReport
from rs3d.services.scrubstate import parse_rate


class Nothing(msgspec.Struct, frozen=True):
    pass


class ScrubStart(msgspec.Struct, frozen=True):
    """An empty rate is the configured one; 0 is none."""

    rate: str = ""


class ScrubAnswer(msgspec.Struct, frozen=True):
    scrub: ScrubReport
    problems: list[ProblemRow]


class ScrubVerbs:
    """The verbs about the scrub."""

    def __init__(self, service: ScrubService, board: ScrubBoard) -> None:
        self._service = service
        self._board = board

    def verbs(self) -> list[Verb]:
        hint = "rs3d scrub status"
        return [
            verb("scrub start", ScrubStart, self.start, hint),
            verb("scrub pause", Nothing, self.pause, hint),
            verb("scrub resume", ScrubStart, self.resume, hint),
            verb("scrub status", Nothing, self.status),
        ]

    async def start(self, arguments: ScrubStart, reporter: Reporter) -> ScrubAnswer:
        await self._service.start(parse_rate(arguments.rate) if arguments.rate else -1)
        return self._answer()

    async def pause(self, arguments: Nothing, reporter: Reporter) -> ScrubAnswer:
        await self._service.pause()
        return self._answer()

    async def resume(self, arguments: ScrubStart, reporter: Reporter) -> ScrubAnswer:
        await self._service.resume(parse_rate(arguments.rate) if arguments.rate else -1)
        return self._answer()

    async def status(self, arguments: Nothing, reporter: Reporter) -> ScrubAnswer:
        return self._answer()

    def _answer(self) -> ScrubAnswer:
        return ScrubAnswer(self._board.report(), self._board.problems())
