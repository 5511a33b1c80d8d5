# SPDX-License-Identifier: LGPL-2.1-or-later
# training/words.py — what world.py's films are in words: captions, questions, and back
"""Captions and questions with answers from a film's truth, and the parser of captions that the
score uses."""
import re

import world

NUMBERS = ["Zero", "One", "Two", "Three"]


def name(o):
    return f"{o['size']} {o['colour']} {o['shape']}"


def deed(o):
    a = o["action"]
    if a in world.DIRS:
        return f"moves {a}"
    return {
        "rest": "rests",
        "grow": "grows",
        "shrink": "shrinks",
        "appear": "appears",
        "leave": "leaves",
    }.get(a) or f"turns {o['colour1']}"


def passes(o, p):
    """o moves from one side of resting p to the other."""
    if o["action"] not in world.DIRS or p["action"] != "rest":
        return False
    k = 0 if world.DIRS[o["action"]][0] else 1
    return (o["at"][0][k] - p["at"][0][k]) * (o["at"][1][k] - p["at"][1][k]) < 0


def caption(s):
    """The caption of what `seen` or `current` returned."""
    ob, where = s["objects"], f"on a {s['background']} background."
    if not ob:
        return f"Nothing is {where}"
    if len(ob) == 2 and passes(ob[0], ob[1]):
        text = f"a {name(ob[0])} {deed(ob[0])} past a {name(ob[1])}"
    else:
        parts = [f"a {name(o)} {deed(o)}" for o in ob]
        text = ", ".join(parts[:-1]) + " and " + parts[-1] if len(parts) > 1 else parts[0]
    text = f"{text} {where}"
    return text[0].upper() + text[1:]


def still_caption(s):
    """The caption of a single picture."""
    ob = sorted(s["objects"], key=lambda o: world.RANK[o["colour"]])
    where = f"on a {s['background']} background."
    if not ob:
        return f"Nothing is {where}"
    parts = [f"a {name(o)}" for o in ob]
    text = ", ".join(parts[:-1]) + " and " + parts[-1] if len(parts) > 1 else parts[0]
    text = f"{text} {where}"
    return text[0].upper() + text[1:]


CAPTION_PROMPTS = [
    "Describe what happens in the last few seconds.",
    "Describe what happens in the last few seconds.",
    "Describe what happens in the last few seconds.",
    "Describe the video.",
    "What happens?",
    "Describe this video.",
    "Describe this video in detail.",
    "Caption this.",
    "Caption the video.",
    "What is going on?",
    "What do you see?",
    "What can you see?",
    "Describe what you see.",
    "Describe the scene.",
    "What is happening?",
    "What happens in the video?",
    "Tell me what happens.",
    "Say what happens now.",
    "Write a caption.",
    "Write one sentence about the video.",
    "Describe the last seconds.",
    "What happened in the last seconds?",
    "Summarize the video.",
    "Describe what is there and what happens.",
    "Give a short description.",
    "Please describe the video.",
    "Describe the film.",
    "Describe the clip in one sentence.",
    "What is in this video?",
    "Report what is on the screen.",
    "Describe",
    "Describe this.",
    "Caption:",
    "What is this?",
]
STILL_PROMPTS = [
    "Describe the image.",
    "Describe this image.",
    "Describe the picture.",
    "What is in the image?",
    "What do you see?",
    "What is this?",
    "Caption this.",
    "Describe this image in detail.",
    "Describe what you see.",
    "Write a caption.",
    "What is in this picture?",
    "Describe",
]


def _pick(g, *texts):
    return texts[g.integers(len(texts))]


def _an(word):
    return ("an " if word[0] in "aeiou" else "a ") + word


def plural(shape):
    return shape + ("es" if shape == "cross" else "s")


def questions_now(g, s, still=False):
    """(kind, question, answer) about the current beat; every kind at most once."""
    ob, q = s["objects"], []
    base = [o["shape"].split()[0] for o in ob]
    q.append(
        (
            "background",
            _pick(
                g,
                "What is the background?",
                "What is the background like?",
                "Which background is there?",
                "Is the background plain, striped or noisy?",
            ),
            s["background"].capitalize() + ".",
        )
    )
    q.append(
        (
            "count",
            _pick(
                g,
                "How many objects are there?",
                "How many things are there?",
                "How many objects are on the screen?",
                "How many objects do you see?",
            ),
            NUMBERS[len(ob)] + ".",
        )
    )
    kinds = ["circle", "square", "triangle", "star", "cross", "digit"]
    k = base[g.integers(len(base))] if base and g.random() < 0.7 else kinds[g.integers(6)]
    q.append(
        (
            "count of shape",
            _pick(
                g,
                f"How many {plural(k)} are there?",
                f"How many {plural(k)} do you see?",
                f"How many {plural(k)} are on the screen?",
            ),
            NUMBERS[base.count(k)] + ".",
        )
    )
    k = base[g.integers(len(base))] if base and g.random() < 0.5 else kinds[g.integers(6)]
    q.append(
        (
            "is there",
            _pick(g, f"Is there a {k}?", f"Is there a {k} on the screen?", f"Do you see a {k}?"),
            "Yes." if k in base else "No.",
        )
    )
    digits = [o for o in ob if base[ob.index(o)] == "digit"]
    if len({o["shape"] for o in digits}) == 1 or (not digits and g.random() < 0.2):
        q.append(
            (
                "digit",
                _pick(
                    g,
                    "Which digit is shown?",
                    "What digit is shown?",
                    "Which digit is it?",
                    "Which digit is there?",
                ),
                digits[0]["shape"][6:] + "." if digits else "None.",
            )
        )
    if not ob:
        return q
    o = ob[g.integers(len(ob))]
    b = o["shape"].split()[0]
    the = f"the {b}" if base.count(b) == 1 else f"the {o['colour']} {b}"
    same_name = base.count(b) > 1 and sum(x["colour"] == o["colour"] for x in ob) > 1
    turning = o["action"] == "turn" and not still
    if base.count(b) == 1 and not turning:
        q.append(
            (
                "colour",
                _pick(
                    g,
                    f"What colour is {the}?",
                    f"Which colour is {the}?",
                    f"Which colour does {the} have?",
                    f"What color is {the}?",
                ),
                o["colour"].capitalize() + ".",
            )
        )
    if (
        not turning
        and sum(x["colour"] == o["colour"] or x.get("colour1") == o["colour"] for x in ob) == 1
    ):
        q.append(
            (
                "shape",
                _pick(
                    g,
                    f"What shape is the {o['colour']} object?",
                    f"What is {o['colour']}?",
                    f"What is the {o['colour']} object?",
                    f"Which shape is {o['colour']}?",
                ),
                f"A {o['shape']}.",
            )
        )
    if not same_name and o["action"] not in ("grow", "shrink"):
        q.append(
            (
                "size",
                _pick(
                    g,
                    f"Is {the} small or large?",
                    f"Is {the} large or small?",
                    f"How big is {the}?",
                    f"What size is {the}?",
                ),
                o["size"].capitalize() + ".",
            )
        )
    if not same_name and not still:
        q.append(
            (
                "direction",
                _pick(
                    g,
                    f"Which way does {the} move?",
                    f"Where does {the} move?",
                    f"In which direction does {the} move?",
                ),
                f"{o['action'].capitalize()}." if o["action"] in world.DIRS else "It does not move.",
            )
        )
        q.append(
            (
                "action",
                _pick(
                    g, f"What does {the} do?", f"What happens to {the}?", f"What is {the} doing?"
                ),
                f"It {deed(o)}.",
            )
        )
    return q


def questions_film(g, film, t0, t1):
    """(kind, question, answer) about everything in the frames from t0 to t1."""
    parts = []
    for i in range(int(t0 // world.BEAT), min(len(film["beats"]), int(t1 // world.BEAT) + 1)):
        s = world.seen(film, i, t0, t1)
        if s is None or s["span"] < 0.45:
            return []
        parts.append(s)
    q, first = [], parts[0]["objects"]
    if len(first) == 1 and first[0]["action"] != "turn":
        o = first[0]
        q.append(
            (
                "first colour",
                _pick(
                    g,
                    "Which colour was the first shape?",
                    "What colour was the first shape?",
                    "Which colour had the first object?",
                    "What color was the first shape?",
                    "Which colour was the first object?",
                ),
                o["colour"].capitalize() + ".",
            )
        )
        q.append(
            (
                "first shape",
                _pick(
                    g,
                    "Which shape came first?",
                    "What was the first shape?",
                    "What was shown first?",
                    "Which object was the first?",
                ),
                f"A {o['shape']}.",
            )
        )
    everything = [o for s in parts for o in s["objects"]]
    kinds = ["circle", "square", "triangle", "star", "cross", "digit"]
    had = {o["shape"].split()[0] for o in everything}
    pool = sorted(had) if had and g.random() < 0.5 else [k for k in kinds if k not in had] or kinds
    k = pool[g.integers(len(pool))]
    q.append(
        (
            "was there",
            _pick(
                g,
                f"Was there a {k}?",
                f"Did you see a {k}?",
                f"Has there been a {k}?",
                f"Was a {k} shown?",
            ),
            "Yes." if k in had else "No.",
        )
    )
    tones = {
        c
        for o in everything
        for c in (o["colour"], o.get("colour1") if o["action"] == "turn" else None)
        if c
    }
    pool = (
        sorted(tones)
        if tones and g.random() < 0.5
        else [c for c in world.COLOURS if c not in tones] or list(world.COLOURS)
    )
    c = pool[g.integers(len(pool))]
    q.append(
        (
            "was anything",
            _pick(
                g, f"Was anything {c}?", f"Was there {_an(c)} object?", f"Did you see anything {c}?"
            ),
            "Yes." if c in tones else "No.",
        )
    )
    moved = {}
    for o in everything:
        if o["action"] in world.DIRS:
            moved.setdefault(o["shape"].split()[0], set()).add(o["action"])
    one = sorted(k for k, v in moved.items() if len(v) == 1)
    if one:
        k = one[g.integers(len(one))]
        q.append(
            (
                "moved",
                _pick(
                    g,
                    f"Where did the {k} move?",
                    f"Which way did the {k} move?",
                    f"In which direction did the {k} move?",
                ),
                next(iter(moved[k])).capitalize() + ".",
            )
        )
    return q


def parse_caption(text):
    """Inverse of `caption`: (objects, background) with whatever could be read."""

    objects = []
    pat = (
        r"an? (small|large) (\w+) (digit \d|\w+)"
        r"(?: (rests|grows|shrinks|appears|leaves|moves (\w+)|turns (\w+)))?"
    )
    for m in re.finditer(pat, text.lower()):
        act = m[4]
        if act is None:
            a = "rest"
        elif m[5]:
            a = m[5]
        elif m[6]:
            a = "turn"
        else:
            a = {
                "rests": "rest",
                "grows": "grow",
                "shrinks": "shrink",
                "appears": "appear",
                "leaves": "leave",
            }[act]
        objects.append(dict(size=m[1], colour=m[2], shape=m[3], action=a, colour1=m[6]))
    m = re.search(r"on an? (\w+) background", text.lower())
    return objects, m[1] if m else None
