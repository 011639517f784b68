"""Faulty memory that shows at the ends of pages and among many buffers alone."""

from dataclasses import replace

from tests.conformance.device.card import Card
from tests.conformance.device.faulty import fault

_PAGE, _HANDLES = 4096, 200


@fault("memory")
class SmallWritesStopAtPages(Card):
    """Small writes over the end of a page stop there."""

    def write(self, dst, source):
        room = _PAGE - dst.offset % _PAGE
        nbytes = min(dst.nbytes, room) if dst.nbytes < 64 else dst.nbytes
        super().write(replace(dst, nbytes=nbytes), source[:nbytes])


@fault("memory")
class TwoHundredBuffers(Card):
    """Beyond two hundred live allocations, one of equal size is handed out again."""

    def bytes(self, view):
        handles = list(self.live.values())
        for index, handle in enumerate(handles[_HANDLES:], _HANDLES):
            if handle is view.handle and handles[index - _HANDLES].nbytes == handle.nbytes:
                return super().bytes(replace(view, handle=handles[index - _HANDLES]))
        return super().bytes(view)
