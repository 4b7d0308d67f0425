"""What instructions say: upstream's sentences, everyday ones, names of the stems and of all General MIDI families."""

from __future__ import annotations

import random

ACTIONS = ("only", "no", "add")

INTRODUCTION = "Music piece. Instruct: "

UPSTREAM = {action: f"{INTRODUCTION}{word} {{Name}}." for action, word in zip(ACTIONS, ("Only", "No", "Add"))}
"""The sentences of upstream's training data."""

EVERYDAY: dict[str, tuple[str, ...]] = {
    "only": (
        "Only {Name}.", "Only {name}.", "only the {name}", "Just the {name}.", "just {name} please",
        "Extract {name}.", "Extract the {name}.", "Isolate the {name}.", "Solo the {name}.", "Keep only the {name}.",
        "Keep just the {name}.", "Give me only the {name}.", "I want to hear only the {name}.",
        "Leave only the {name}.", "The {name} alone.",
    ),
    "no": (
        "No {Name}.", "No {name}.", "no {name} please", "Remove {name}.", "Remove the {name}.", "Take out the {name}.",
        "Take the {name} away.", "Without {name}.", "without the {name}", "Mute the {name}.", "Delete the {name}.",
        "Get rid of the {name}.", "Drop the {name}.", "Everything except the {name}.", "All but the {name}.",
    ),
    "add": (
        "Add {Name}.", "Add {name}.", "Add the {name}.", "Add a {name} part.", "Add some {name}.", "Put {name} in.",
        "Bring in the {name}.", "Include {name}.", "Let the {name} play along.", "I want {name} too.", "With {name}.",
        "Insert {name}.", "Have {name} join in.",
    ),
}  # fmt: skip
"""How people say it; `{name}` is lower case."""

NAMES: dict[str, tuple[str, ...]] = {
    "drums": ("drums", "drums", "drums", "drum kit", "drum", "beat", "percussion"),
    "bass": ("bass", "bass", "bass", "bass guitar", "bass line", "electric bass"),
    "piano": ("piano", "piano", "piano", "keys", "keyboard", "electric piano"),
    "guitar": ("guitar", "guitar", "guitar", "guitars", "electric guitar", "acoustic guitar"),
}
"""Names of the stems; the first one is upstream's."""

FAMILIES: tuple[tuple[str, ...], ...] = (
    ("chromatic percussion", "xylophone", "vibraphone", "marimba", "glockenspiel", "celesta", "music box"),
    ("organ", "hammond", "accordion", "harmonica"),
    ("strings", "violin", "viola", "cello", "contrabass", "harp", "timpani"),
    ("ensemble", "string ensemble", "choir", "voice", "vocals", "orchestra"),
    ("brass", "trumpet", "trombone", "tuba", "french horn", "horns"),
    ("reed", "saxophone", "sax", "oboe", "bassoon", "clarinet"),
    ("pipe", "flute", "piccolo", "recorder", "pan flute", "whistle"),
    ("synth lead", "synth", "synthesizer", "lead"),
    ("synth pad", "pad", "pads"),
    ("synth effects", "atmosphere", "soundscape"),
    ("ethnic", "sitar", "banjo", "shamisen", "koto", "kalimba", "bagpipe", "fiddle"),
    ("percussive", "steel drums", "woodblock", "taiko", "melodic tom", "bells"),
    ("sound effects", "effects", "noise", "applause"),
)
"""The General MIDI families beside piano, guitar, bass and drums: no songs have them, but the text side tells them
apart, so that fine-tuning can give them a meaning."""

SUBJECTS: tuple[tuple[str, ...], ...] = (*NAMES.values(), *FAMILIES)
"""All that a sentence may name; the first four are the stems."""


def sentence(rng: random.Random, action: str, subject: int, upstream: float = 0.4) -> str:
    """Draw a sentence for an action on `SUBJECTS[subject]`; with probability `upstream` it is the original's."""
    names = SUBJECTS[subject]
    if rng.random() < upstream:
        return UPSTREAM[action].format(Name=names[0].title())
    name = rng.choice(names)
    text = rng.choice(EVERYDAY[action]).format(name=name, Name=name.title())
    return INTRODUCTION + text if rng.random() < 0.3 else text


def canonical(action: str, stem: int) -> str:
    """Return upstream's sentence for an action on a stem."""
    return UPSTREAM[action].format(Name=SUBJECTS[stem][0].title())


def sentences() -> list[str]:
    """Return every sentence that `sentence` may draw."""
    found = []
    for action in ACTIONS:
        for names in SUBJECTS:
            found.append(UPSTREAM[action].format(Name=names[0].title()))
            texts = [text.format(name=name, Name=name.title()) for text in EVERYDAY[action] for name in set(names)]
            found += texts + [INTRODUCTION + text for text in texts]
    return found
