"""What people ask for, as the sentences that the model was trained on.

Upstream trained `Music piece. Instruct: ` followed by "Only X.", "No X." or "Add X." and nothing else, X being one of
four instruments (its src/data/slakh_datamodule.py). It never saw "Remove X.". Nothing heavy is imported here.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from . import instruments

Verb = Literal["Only", "No", "Add"]
VERBS: tuple[Verb, ...] = ("Only", "No", "Add")
PREAMBLE = "Music piece. Instruct: "
MAX_INSTRUMENTS = 64
"""The most instruments of a bundle."""
LONGEST = 300
"""The most characters of a sentence that is read; no sentence of the grammar below comes near it."""


@dataclass(frozen=True)
class Vocabulary:
    """The instruments and sentences that a bundle was trained on; the defaults are upstream's.

    `instruments` stand as training sentences write them. `everyday`: it also saw everyday sentences, without preamble.
    Raises ValueError for names that cannot stand in a sentence, or two that are alike.
    """

    instruments: tuple[str, ...] = ("Drums", "Bass", "Piano", "Guitar")
    everyday: bool = False

    def __post_init__(self) -> None:
        if not 1 <= len(self.instruments) <= MAX_INSTRUMENTS:
            raise ValueError(f"{len(self.instruments)} instruments; name 1 to {MAX_INSTRUMENTS}")
        for name in self.instruments:
            instruments.checked(name)
        plain = [instruments.plain(name) for name in self.instruments]
        if twins := {name for name in plain if plain.count(name) > 1}:
            raise ValueError(f"{sorted(twins)[0]!r:.40} is named twice; name it once")

    def sentences(self) -> tuple[str, ...]:
        """Return every trained sentence, the three verbs of an instrument side by side."""
        return tuple(sentence(verb, name) for name in self.instruments for verb in VERBS)

    def entry(self) -> dict[str, Any]:
        """Return what config.json says of it, under `instructions`."""
        return {"instruments": list(self.instruments)} | ({"everyday": True} if self.everyday else {})


UPSTREAM = Vocabulary()


class Asked(NamedTuple):
    """`text` goes to the model; `note` is one line on why it may not be understood, or empty."""

    text: str
    note: str = ""


def sentence(verb: Verb, instrument: str) -> str:
    """Return the trained sentence: `Music piece. Instruct: No Drums.`"""
    return f"{PREAMBLE}{verb} {instrument}."


def trained(text: str, vocabulary: Vocabulary = UPSTREAM) -> str:
    """Return the trained sentence for an everyday one: "remove the drums" -> "Music piece. Instruct: No Drums."

    `text` itself where it begins with "Music piece." or matches none; `asked` also says what to mind.
    """
    return asked(text, vocabulary).text


def asked(text: str, vocabulary: Vocabulary = UPSTREAM) -> Asked:
    """Return what goes to the model for a sentence that a person typed, and one line where that was not trained.

    A sentence is translated only if the whole of it is understood; what is left over or can be read two ways is handed
    over as it is. So is what begins with "Music piece.", and, where the bundle was trained on everyday sentences, all.
    """
    given, said = _without_preamble(text)
    found = read(said, vocabulary)
    if found is None:
        return Asked(text, _unmatched(said if said.strip() else text, vocabulary))
    meant = sentence(*found)
    if " ".join(text.split()) == meant:  # spaces and lines are all that differs
        text = meant
    if found[1] not in vocabulary.instruments:
        note = _untrained(found[1], vocabulary)
    elif given and text != meant:
        note = f'the model was not trained on "{_shown(text)}"; the sentence it was trained on is "{meant}"'
    else:
        note = ""
    return Asked(text if given or vocabulary.everyday else meant, note)


def meaning(text: str, vocabulary: Vocabulary = UPSTREAM) -> tuple[Verb, str] | None:
    """Return the verb and the instrument of a sentence, with upstream's preamble or without; None if it is unclear."""
    return read(_without_preamble(text)[1], vocabulary)


def outcome(text: str, vocabulary: Vocabulary = UPSTREAM) -> str:
    """Return what an edit should sound like: "only drums", "the input without drums"; empty where that is unclear."""
    found = meaning(text, vocabulary)
    if found is None:
        return ""
    verb, name = found
    heard = {"Only": "only {}", "No": "the input without {}", "Add": "the input and {}"}
    return heard[verb].format(name.lower())


def without_preamble(text: str) -> str:
    """Return the sentence alone: `Music piece. Instruct: Only Drums.` -> `Only Drums.`"""
    return _without_preamble(text)[1].strip()


def _without_preamble(text: str) -> tuple[bool, str]:
    """Return whether a text begins with "Music piece.", and what comes after it."""
    given = re.match(r"\s*music\s+piece\s*\.\s*(?:instruct\w*\s*:)?", text, re.IGNORECASE)
    return given is not None, text[given.end() :] if given else text


def chosen(verb: Verb, name: str, vocabulary: Vocabulary = UPSTREAM) -> Asked:
    """Return what goes to the model for `--only`, `--no` and `--add`.

    A name that is in no list is taken as it is written.
    """
    found = instruments.named(name, vocabulary.instruments)
    name = found or (name.strip().title() if name == name.lower() else name.strip())
    return Asked(sentence(verb, name), "" if name in vocabulary.instruments else _untrained(name, vocabulary))


def read(text: str, vocabulary: Vocabulary = UPSTREAM) -> tuple[Verb, str] | None:
    """Return the verb and the instrument of a sentence; None unless all of it says one thing."""
    readings = {
        (verb, name)
        for verb, phrase in _readings(text)
        if (name := instruments.named(phrase, vocabulary.instruments)) is not None
    }
    return readings.pop() if len(readings) == 1 else None


def _readings(text: str) -> Iterator[tuple[Verb, str]]:
    if len(text) <= LONGEST and len(_normal(text)) <= LONGEST:
        words = _plain(text)
        for verb, pattern in _GRAMMAR:
            if found := pattern.fullmatch(words):
                yield verb, found["x"]


def _plain(text: str) -> str:
    """Return a text in lower case, contractions written out, without courtesies and closing marks.

    What is behind its first LONGEST characters is cut off.
    """
    text = instruments.plain(_normal(text[:LONGEST])[:LONGEST])
    text = re.sub(r"\s*[.!?,;:\"]+$", "", text.lstrip('"'))
    for short, long in ((r"n't\b", " not"), (r"\bdont\b", "do not"), (r"\bi'd\b", "i would")):
        text = re.sub(short, long, text)
    before = None
    while before != text:
        before = text
        for courtesy in _COURTESIES:
            text = courtesy.sub("", text).strip(" ,")
    return " ".join(text.split())


def _normal(text: str) -> str:
    """Return a text with plain letters and marks for their variants; one character can become eighteen."""
    return unicodedata.normalize("NFKC", text).replace("’", "'").replace("&", " and ")


_COURTESIES = tuple(
    re.compile(pattern)
    for pattern in (
        r"^(?:please|kindly|hey|hi|ok|okay|now|and|so|then)\b,?",
        r",? (?:please|thanks|thank you|now|for me)$",
        r"^(?:can|could|would|will) (?:you|we|i)\b",
        r"^(?:i|we) (?:would like|would love|want|need|wish)(?: you)? to (?=\w)(?!hear\b|listen\b|have\b|get\b)",
        r"^(?:i|we) (?:would like|would love|want|need)(?: to (?:hear|listen to|have|get))?"
        r" (?=(?:only|just|no|nothing but|everything|all but)\b)",
        r"^(?:let me|let us|let's|lets) (?:hear|have) (?=(?:only|just|no|nothing but|everything|all but)\b)",
        r"^(?:make|play) (?:it|this|the song|the track)(?: be)? (?=(?:with no|without|only|just)\b|\S+ ?(less|free)$)",
        r"^(?:the )?(?:same )?(?:song|track|music|clip|mix|original|thing)(?: but)? (?=(?:without|minus|with)\b)",
        r"(?<!^) (?:from|in|of|to|on|out of|into|for) (?:it|(?:the|this|my) (?:song|track|mix|clip|music|piece|audio|"
        r"recording|loop|file|tune|original|whole thing))$",
    )
)

_X = r"(?P<x>[\w' ]+?)"


def _any(words: str) -> str:
    """Return a pattern for one of comma-separated alternatives, the longest that fits."""
    return f"(?:{'|'.join(sorted(words.split(', '), key=len, reverse=True))})"


_ONLY = _any("only, just, solely, nothing but, nothing except")
_BUT = _any("but, but for, except, except for, apart from, aside from, other than, save for")
_ALL = (
    r"(?:(?:everything|all|anything|every instrument|all of it)(?: else)?"
    r"|(?:all )?(?:of )?(?:the )?(?:other )?(?:instruments|others|rest))"
)
_KEEP = _any("keep, play, extract, isolate, solo, separate, single out, have, hear, give me, leave, leave me with")
_ISOLATE = _any("keep, extract, isolate, solo, separate, single out")
_REMOVE = _any(
    "remove, delete, mute, silence, erase, eliminate, exclude, omit, discard, cut, cut out, cut away, take out, "
    "take away, take off, leave out, leave off, filter out, strip, strip out, strip away, throw out, turn off, "
    "switch off, get rid of, do away with, lose, kill, ditch, scrap, subtract"
)
_WITHOUT = _any(
    "no, no more, without, minus, with no, do not play, do not include, do not use, do not have, do not keep, "
    "i do not want, i do not want to hear, we do not want, we do not want to hear"
)
_ADD = _any(
    "add, add in, add back, put in, put back, bring in, bring back, include, insert, introduce, mix in, layer in, "
    "drop in, overdub, give it, give this, accompany with, accompany it with, accompany this with"
)
_GONE = _any("removed, muted, deleted, silenced, off, gone, taken out, cut out, left out")


def _patterns(verb: Verb, *patterns: str) -> list[tuple[Verb, re.Pattern[str]]]:
    return [(verb, re.compile(pattern)) for pattern in patterns]


_GRAMMAR = [
    *_patterns(
        "Only",
        rf"(?:(?:{_KEEP}|with) )?{_ONLY} {_X}(?: and nothing else)?",
        rf"(?:with )?{_X} {_any('only, alone, by itself, by themselves, on its own, on their own, and nothing else')}",
        rf"{_ONLY} {_KEEP} {_X}",
        rf"(?:i|we) (?:only|just) (?:want|need)(?: to (?:hear|have|keep))? {_X}",
        rf"{_ISOLATE} {_X}(?: only| alone)?",
        rf"{_REMOVE} {_ALL} {_BUT} {_X}",
        rf"{_any('nothing else, no instruments, no other instruments')} {_BUT} {_X}",
    ),
    *_patterns(
        "No",
        rf"(?:{_REMOVE}|{_WITHOUT}) {_X}",
        rf"(?:only|just) {_REMOVE} {_X}",
        rf"{_REMOVE} (?:only|just) {_X}",
        rf"(?:take|leave|cut|strip|filter|throw) {_X} (?:out|away|off)",
        rf"(?:turn|switch|shut) {_X} off",
        rf"(?:with )?{_X} {_GONE}",
        rf"(?:(?:keep|play|have|hear|with|leave) )?{_ALL} (?:{_BUT}|without|minus) {_X}",
        rf"{_X}(?: ?less| free)(?: version)?",
    ),
    *_patterns(
        "Add",
        rf"{_ADD} {_X}",
        rf"{_any('with, with added, with additional, add only, add just, only add, just add')} {_X}",
        rf"(?:put|bring|mix|layer|add|drop) {_X} (?:in|on top|back|back in)",
        rf"(?:with )?{_X} added",
    ),
]
"""Each pattern must match the whole sentence, and its `x` must name one instrument."""


def _unmatched(text: str, vocabulary: Vocabulary) -> str:
    """Return one line on a sentence that was not understood: what it names, and what was trained."""
    reason = "matches none of the sentences that the model was trained on"
    words = _plain(text)
    mentioned = instruments.mentioned(words, vocabulary.instruments)
    if whole := next(filter(None, (instruments.whole(phrase) for _, phrase in _readings(text))), None):
        reason = f"names a part of {whole}, which the model was trained on as a whole"
    elif len(mentioned) > 1:
        reason = "names more than one instrument, and the model was trained on one at a time"
    elif instruments.named(words, vocabulary.instruments):
        reason = "does not say what to do with it; begin with only, no or add"
    forms = ", ".join(f'"{verb} X"' for verb in VERBS)
    return f'"{_shown(text)}" {reason} ({forms} with X of {_listed(vocabulary.instruments)}); it goes in as it is'


def _untrained(instrument: str, vocabulary: Vocabulary) -> str:
    return f"the model was not trained on {instrument}, only on {_listed(vocabulary.instruments)}"


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]


def _shown(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 80 else f"{text[:77]}..."
