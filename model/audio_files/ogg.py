"""The links of an Ogg file: one that was joined, or recorded from a radio, has several, each with its own headers."""

from __future__ import annotations

import re

from .pieces import Part, Pieces, View, bounded

AUDIO = (b"\x01vorbis", b"OpusHead", b"\x7fFLAC", b"Speex   ")
"""How the first packet of a stream of sound begins."""
_PAGE = re.compile(b"OggS")


def parts(view: View) -> list[Part]:
    """Return a part for each link: the pages of its first stream of sound, whatever video or text lies between them.

    Raises TooMuch for too many links, pages apart from each other, or marks of none.
    """
    made: list[Part] = []
    pages: list[tuple[int, int]] = []
    serial, ended, heads, apart, stray = b"", False, True, 0, 0

    def close() -> None:
        if pages:
            note = "" if ended else "it has no end of stream: it was cut off, or recorded; what is there is taken"
            made.append(Part(Pieces(view.file, pages), note=note))
            bounded(len(made))

    at = view.start
    while (at := view.find(_PAGE, at)) >= 0:
        head = view.at(at, 282)
        if len(head) < 27 or len(head) < 27 + head[26] or head[4]:
            at += 4
            stray += 1
            bounded(stray=stray)
            continue
        body = at + 27 + head[26]
        end = body + sum(head[27 : 27 + head[26]])
        if end > view.end:  # cut within a page
            break
        if head[5] & 2:  # the first page of a stream
            if not heads:
                close()
                pages, serial, ended = [], b"", False
            heads = True
            if not pages and view.at(body, 8).startswith(AUDIO):
                serial = head[14:18]
        else:
            heads = False
        if head[14:18] == serial:
            ended = bool(head[5] & 4)
            if pages and pages[-1][1] == at:
                pages[-1] = pages[-1][0], end
            else:
                pages.append((at, end))
                apart += 1
                bounded(pieces=apart)
        at = end
    close()
    return made
