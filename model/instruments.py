"""Names of instruments as people say them. Nothing here knows what a bundle was trained on."""

from __future__ import annotations

import re
from collections.abc import Sequence

SYNONYMS = {
    "Drums": "drum, drum kit, drumkit, drum set, drumset, drum machine, percussion, percussion instrument",
    "Bass": "bass guitar, electric bass, acoustic bass, upright bass, double bass, contrabass, synth bass, slap bass, "
    "fretless bass, bassline",
    "Piano": "e piano, epiano, electric piano, electronic piano, digital piano, acoustic piano, grand piano, "
    "upright piano, rhodes, fender rhodes, key, keyboard",
    "Guitar": "electric guitar, e guitar, acoustic guitar, lead guitar, rhythm guitar, classical guitar, "
    "nylon guitar, steel guitar, clean guitar, distorted guitar, gtr",
    "Vocals": "vocal, voice, singing, singer, vox, lead vocal, lead voice",
    "Strings": "string, string section",
    "Synth": "synthesizer, synthesiser, synth lead, synth pad, lead synth, pad",
    "Organ": "hammond, hammond organ, church organ, pipe organ",
    "Brass": "horn, brass section, horn section",
    "Saxophone": "sax, saxes, alto sax, tenor sax, alto saxophone, tenor saxophone",
    "Violin": "fiddle", "Viola": "", "Cello": "violoncello", "Harp": "", "Flute": "", "Clarinet": "", "Oboe": "",
    "Bassoon": "", "Trumpet": "", "Trombone": "", "Tuba": "", "French Horn": "", "Harmonica": "", "Accordion": "",
    "Banjo": "", "Mandolin": "", "Ukulele": "", "Sitar": "", "Harpsichord": "", "Clavinet": "", "Celesta": "",
    "Marimba": "", "Xylophone": "", "Vibraphone": "vibes", "Glockenspiel": "", "Bells": "bell", "Choir": "chorus",
}  # fmt: skip
"""Names as training sentences write them, each with its other names in the singular."""

PARTS = {
    "Drums": "kick, kick drum, bass drum, snare, snare drum, hi hat, hihat, hat, cymbal, crash, ride, tom, tom tom, "
    "tambourine, shaker, cowbell, conga, bongo, clap, handclap",
}  # fmt: skip
"""What belongs to an instrument but is not the whole of it."""

_DETERMINER = re.compile(r"(?:the|an?|any|some|all|my|its|their|this|that|these|those|of|sounds? of|parts? of) ")
_SUFFIX = re.compile(r" (?:instruments?|tracks?|parts?|lines?|stems?|sounds?|section|playing)$")


def checked(name: str) -> str:
    """Return a name that may stand in a sentence: as it is, without spaces around it.

    Raises ValueError unless it is one to 40 printable characters that do not end a sentence or join names.
    """
    name = name.strip()
    if not 0 < len(name) <= 40 or not name.isprintable() or not re.search(r"\w", name):
        raise ValueError(f"{name!r:.60} is not an instrument's name; write one of 1 to 40 characters, as Drums")
    if re.search(r"[.,;:!?]|\s(?:and|or|but)\s", name, re.IGNORECASE):
        raise ValueError(f"{name!r:.60} must be one instrument's name, as Drums")
    return name


def plain(text: str) -> str:
    """Return a text in lower case, with single spaces, and hyphens as spaces."""
    return " ".join(text.casefold().replace("-", " ").replace("_", " ").split())


def named(phrase: str, own: Sequence[str] = ()) -> str | None:
    """Return the instrument that a phrase names ("the bass guitar" -> "Bass").

    None if it says more than that, less, or something else.

    `own` are names that a bundle was trained on: they come before all others, and are given back as written there.
    """
    phrase = _bare(phrase)
    for candidate in (phrase, _SUFFIX.sub("", phrase)):
        for table in ({plain(name): name for name in own}, _table(own)):
            for form in _numbers(candidate):
                if form in table:
                    return table[form]
    return None


def mentioned(text: str, own: Sequence[str] = ()) -> set[str]:
    """Return every instrument named in a text, the longest names first ("bass guitar" is no guitar)."""
    words, found = re.findall(r"\w+", plain(text)), set()
    while words:
        for count in range(min(3, len(words)), 0, -1):
            if name := named(" ".join(words[:count]), own):
                found.add(name)
                words = words[count - 1 :]
                break
        words = words[1:]
    return found


def whole(phrase: str) -> str | None:
    """Return the instrument that a phrase names a part of ("the snare" -> "Drums")."""
    phrase = _bare(phrase)
    forms = {form for candidate in (phrase, _SUFFIX.sub("", phrase)) for form in _numbers(candidate)}
    return next((name for name, parts in PARTS.items() if forms & set(parts.split(", "))), None)


def _table(own: Sequence[str]) -> dict[str, str]:
    """Return every known name, in the bundle's spelling where it has that instrument."""
    spelled = {plain(name): name for name in own}
    found = {}
    for name, others in SYNONYMS.items():
        written = next((spelled[form] for form in _numbers(plain(name)) if form in spelled), name)
        for form in (plain(name), *filter(None, others.split(", "))):
            found[form] = written
    return found


def _bare(phrase: str) -> str:
    """Return a phrase without articles and the like before its noun."""
    phrase = plain(phrase)
    while found := _DETERMINER.match(phrase):
        phrase = phrase[found.end() :]
    return phrase


def _numbers(form: str) -> tuple[str, ...]:
    """Return a noun as it is, and its plural or singular."""
    return (form, form[:-1]) if form.endswith("s") else (form, f"{form}s")
