# SPDX-License-Identifier: LGPL-2.1-or-later
# training/world.py — the synthetic world: films by seed, their pixels, their truth
"""A film is a list of beats of BEAT seconds.  During a beat each of zero to three objects does
one thing; a scene is a run of beats with the same objects and background.  Everything follows
from an integer seed.  Lengths are in units of the frame's short side, so the same film can be
drawn at any size of the same aspect ratio.  Needs numpy only.

Seeds below HELD_OUT are for training, seeds from HELD_OUT on for measurements."""

import math

import numpy as np

BEAT = 4.0
HELD_OUT = 2_000_000_000
COLOURS = {
    "red": (225, 30, 35),
    "orange": (250, 135, 15),
    "yellow": (245, 230, 40),
    "green": (30, 175, 55),
    "blue": (35, 75, 235),
    "purple": (160, 50, 205),
    "white": (245, 245, 245),
}
SHAPES = ["circle", "square", "triangle", "star", "cross"] + [f"digit {d}" for d in range(10)]
SIZES = {"small": (0.15, 0.17), "large": (0.24, 0.27)}
DIRS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
BACKGROUNDS = ["plain", "striped", "noisy"]
RANK = {c: i for i, c in enumerate(COLOURS)}
_DIGITS = [
    "01110 10001 10011 10101 11001 10001 01110",
    "00100 01100 00100 00100 00100 00100 01110",
    "01110 10001 00001 00110 01000 10000 11111",
    "11110 00001 00001 01110 00001 00001 11110",
    "00010 00110 01010 10010 11111 00010 00010",
    "11111 10000 11110 00001 00001 10001 01110",
    "00110 01000 10000 11110 10001 10001 01110",
    "11111 00001 00010 00100 01000 01000 01000",
    "01110 10001 10001 01110 10001 10001 01110",
    "01110 10001 10001 01111 00001 00010 01100",
]
_GLYPHS = [np.array([[int(c) for c in row] for row in g.split()], np.float32) for g in _DIGITS]


# ------------------------------------------------------------------------------- films
def _background(g):
    kind = BACKGROUNDS[g.integers(3)]
    base = g.integers(15, 120) + g.integers(-14, 15, 3)
    return dict(
        kind=kind,
        colour=[int(v) for v in np.clip(base, 5, 130)],
        delta=int(g.integers(28, 55)),
        period=float(g.uniform(0.14, 0.30)),
        angle=int(g.integers(4)),
        seed=int(g.integers(1 << 31)),
    )


def _position(o, u):
    return (
        o["x0"] + (o["x1"] - o["x0"]) * u,
        o["y0"] + (o["y1"] - o["y0"]) * u,
        o["r0"] + (o["r1"] - o["r0"]) * u,
    )


def _clear(objects):
    for u in (0, 0.25, 0.5, 0.75, 1):
        at = [_position(o, u) for o in objects]
        for i in range(len(at)):
            for j in range(i):
                d = math.hypot(at[i][0] - at[j][0], at[i][1] - at[j][1])
                if d < 1.02 * (at[i][2] + at[j][2]):
                    return False
    return True


def _act(g, o, used, w, h, action):
    """One beat of object o (x, y, r, shape, colour, size, or x None where it is new)."""
    b = dict(
        shape=o["shape"], colour=o["colour"], size=o["size"], action="rest", r0=o["r"], r1=o["r"]
    )
    m = 0.02
    big = max(o["r"], SIZES["large"][0]) if action == "grow" else o["r"]
    if action in ("grow", "shrink"):
        if (action == "grow") != (o["size"] == "small"):
            return None
        b["r1"] = float(g.uniform(*SIZES["large" if action == "grow" else "small"]))
        big = max(b["r0"], b["r1"])
    new = o["x"] is None
    x, y = (
        (g.uniform(big + m, w - big - m), g.uniform(big + m, h - big - m))
        if new
        else (o["x"], o["y"])
    )
    if action in ("grow", "shrink") and not (
        big + m <= x <= w - big - m and big + m <= y <= h - big - m
    ):
        return None
    x1, y1 = x, y
    if action in DIRS:
        dx, dy = DIRS[action]
        room = {
            "left": x - big - m,
            "right": w - big - m - x,
            "up": y - big - m,
            "down": h - big - m - y,
        }[action]
        if room < 0.34:
            return None
        d = g.uniform(0.34, min(room, 1.1))
        x1, y1 = x + dx * d, y + dy * d
    if action in ("appear", "leave", "turn"):
        b["tc"] = float(g.uniform(1.1, 2.9))
    if action == "turn":
        free = [c for c in COLOURS if c not in used]
        b["colour1"] = free[g.integers(len(free))]
    b.update(action=action, x0=float(x), y0=float(y), x1=float(x1), y1=float(y1))
    return b


def _beat(g, objects, w, h, first, busy=False):
    """Actions of all objects for one beat, in `busy` films mostly moves; None where no free place
    was found."""
    for attempt in range(40):
        out, used = [], {o["colour"] for o in objects}
        for o in objects:
            choices = (
                ["rest"] * 4 + list(DIRS) * 3 + ["grow", "shrink"] * 3 + ["turn"] * 2 + ["leave"]
            )
            if first:
                choices += ["appear"]
            if busy and g.random() < 0.75:
                choices = list(DIRS)
            if o.get("fresh"):
                choices = ["appear"]
            a = choices[g.integers(len(choices))] if attempt < 30 or o.get("fresh") else "rest"
            b = None
            for _ in range(6):
                b = _act(g, o, used, w, h, a)
                if b:
                    break
            if b is None:
                b = _act(g, o, used, w, h, "appear" if o.get("fresh") else "rest")
            if "colour1" in b:
                used.add(b["colour1"])
            out.append(b)
        if _clear(out):
            return out
    return None


def make_film(seed, beats, aspect, busy=False):
    """Film of `beats` beats for a frame of `aspect` = width / height.  `busy`: two or three things,
    mostly small, half of them digits, that move at once; for training alone."""
    g = np.random.default_rng([20261122, seed])
    w, h = (aspect, 1.0) if aspect >= 1 else (1.0, 1.0 / aspect)
    film = dict(seed=int(seed), width=w, height=h, beats=[])
    while len(film["beats"]) < beats:
        start = not film["beats"]
        n = int(g.choice(4, p=[0.02, 0.62, 0.24, 0.12] if start else [0.05, 0.33, 0.36, 0.26]))
        if busy:
            n = 2 + int(g.random() < 0.2)
        bg, colours = _background(g), list(g.permutation(list(COLOURS)))
        objects = []
        for i in range(n):
            if i and g.random() < 0.3:
                shape = objects[0]["shape"]
            else:
                digit = g.random() >= (0.5 if busy else 0.8)
                shape = SHAPES[g.integers(5, 15)] if digit else SHAPES[g.integers(5)]
            size = ("small", "large")[g.integers(2)]
            if busy and g.random() < 0.5:
                size = "small"
            objects.append(
                dict(
                    shape=shape,
                    colour=str(colours[i]),
                    size=size,
                    x=None,
                    y=None,
                    r=float(g.uniform(*SIZES[size])),
                )
            )
        first = True
        for _ in range(min(int(g.integers(1, 4)), beats - len(film["beats"]))):
            acts = _beat(g, objects, w, h, first, busy)
            if acts is None:
                break
            film["beats"].append(dict(background=bg, objects=acts))
            objects = [
                dict(
                    shape=b["shape"],
                    colour=b.get("colour1", b["colour"]),
                    size={"grow": "large", "shrink": "small"}.get(b["action"], b["size"]),
                    x=b["x1"],
                    y=b["y1"],
                    r=b["r1"],
                )
                for b in acts
                if b["action"] != "leave"
            ]
            if len(objects) < 3 and g.random() < 0.25:
                used = [o["colour"] for o in objects]
                free = [c for c in COLOURS if c not in used]
                size = ("small", "large")[g.integers(2)]
                objects.append(
                    dict(
                        shape=SHAPES[g.integers(5) if g.random() < 0.8 else g.integers(5, 15)],
                        colour=free[g.integers(len(free))],
                        size=size,
                        x=None,
                        y=None,
                        r=float(g.uniform(*SIZES[size])),
                        fresh=True,
                    )
                )
            first = False
    return film


# ------------------------------------------------------------------------------ pixels
class Painter:
    """Draws frames of one film at width x height; colours vary a little with the seed."""

    def __init__(self, film, width, height):
        self.film, self.w, self.h = film, width, height
        self.s = min(width, height)
        self.back = {}
        g = np.random.default_rng([7, film["seed"]])
        self.tint = {
            c: np.clip(np.array(v) + g.integers(-9, 10, 3), 0, 255).astype(np.float32)
            for c, v in COLOURS.items()
        }

    def _ground(self, bg):
        if bg["seed"] in self.back:
            return self.back[bg["seed"]]
        c = np.array(bg["colour"], np.float32)
        g = np.random.default_rng(bg["seed"])
        y, x = np.mgrid[0 : self.h, 0 : self.w].astype(np.float32) / self.s
        a = np.zeros((self.h, self.w), np.float32)
        if bg["kind"] == "striped":
            t = (x, y, (x + y) * 0.7071, (x - y) * 0.7071)[bg["angle"]]
            p = bg["period"]
            d = np.abs((t / p) % 1.0 - 0.5) - 0.25
            a = np.clip(d * p * self.s + 0.5, 0, 1) * bg["delta"]
        elif bg["kind"] == "noisy":
            n = 44
            cells = g.random(
                (math.ceil(self.film["height"] * n) + 1, math.ceil(self.film["width"] * n) + 1)
            )
            a = (cells[(y * n).astype(int), (x * n).astype(int)] * 1.5 * bg["delta"]).astype(
                np.float32
            )
        self.back = {bg["seed"]: np.clip(c + a[..., None], 0, 255)}
        return self.back[bg["seed"]]

    def frame(self, t):
        """uint8 [height, width, 3] at film time t seconds."""
        i = min(int(t // BEAT), len(self.film["beats"]) - 1)
        beat, tb = self.film["beats"][i], t - i * BEAT
        img = self._ground(beat["background"]).copy()
        for o in beat["objects"]:
            a = o["action"]
            if (a == "appear" and tb < o["tc"]) or (a == "leave" and tb >= o["tc"]):
                continue
            colour = o["colour1"] if a == "turn" and tb >= o["tc"] else o["colour"]
            x, y, r = _position(o, min(tb / BEAT, 1.0))
            self._draw(img, o["shape"], self.tint[colour], x * self.s, y * self.s, r * self.s)
        return img.astype(np.uint8)

    def _draw(self, img, shape, colour, cx, cy, r):
        x0, x1 = max(int(cx - r) - 2, 0), min(int(cx + r) + 3, self.w)
        y0, y1 = max(int(cy - r) - 2, 0), min(int(cy + r) + 3, self.h)
        if x0 >= x1 or y0 >= y1:
            return
        x = np.arange(x0, x1, dtype=np.float32)[None, :] + 0.5 - cx
        y = np.arange(y0, y1, dtype=np.float32)[:, None] + 0.5 - cy
        if shape == "circle":
            d = np.hypot(x, y) - 0.95 * r
        elif shape == "square":
            d = np.maximum(np.abs(x), np.abs(y)) - 0.84 * r
        elif shape == "cross":
            ax, ay = np.abs(x), np.abs(y)
            d = np.minimum(np.maximum(ax - r, ay - 0.3 * r), np.maximum(ax - 0.3 * r, ay - r))
        elif shape == "triangle":
            d = np.maximum(y - 0.75 * r, np.abs(x) * 0.866 - (y + r) * 0.5 * 1.0)
        elif shape == "star":
            k = np.arctan2(x, -y)
            k = np.abs((k + math.pi / 5) % (2 * math.pi / 5) - math.pi / 5)
            q = np.hypot(x, y)
            px, py = q * np.cos(k), q * np.sin(k)
            ix, iy = 0.42 * r * math.cos(math.pi / 5), 0.42 * r * math.sin(math.pi / 5)
            nx, ny = iy, r - ix
            d = ((px - r) * nx + py * ny) / math.hypot(nx, ny)
        else:
            glyph = _GLYPHS[int(shape[-1])]
            u, v = (x / (1.42 * r) + 0.5) * 5, (y / (2.0 * r) + 0.5) * 7
            inside = (u >= 0) & (u < 5) & (v >= 0) & (v < 7)
            cover = glyph[np.clip(v, 0, 6).astype(int), np.clip(u, 0, 4).astype(int)] * inside
            img[y0:y1, x0:x1] += (colour - img[y0:y1, x0:x1]) * cover[..., None]
            return
        cover = np.clip(0.5 - d, 0, 1)[..., None]
        img[y0:y1, x0:x1] += (colour - img[y0:y1, x0:x1]) * cover


def smart_size(width, height, min_pixels, max_pixels, factor=32):
    """Qwen's resize rule: sides are multiples of `factor`, area within the limits."""
    h, w = max(factor, round(height / factor) * factor), max(factor, round(width / factor) * factor)
    if h * w > max_pixels:
        b = math.sqrt(height * width / max_pixels)
        h, w = max(factor, math.floor(height / b / factor) * factor), max(
            factor, math.floor(width / b / factor) * factor
        )
    elif h * w < min_pixels:
        b = math.sqrt(min_pixels / (height * width))
        h, w = math.ceil(height * b / factor) * factor, math.ceil(width * b / factor) * factor
    return w, h


# ------------------------------------------------------------------------------- truth
def seen(film, i, ta, tb):
    """What frames from ta to tb (the times of the first and the last) show of beat i: its objects
    as they look in those frames, or None where they are too few to judge."""
    a, b = max(ta - i * BEAT, 0.0), min(tb - i * BEAT, BEAT)
    if b <= a:
        return None
    out = []
    for o in film["beats"][i]["objects"]:
        k, q = o["action"], dict(
            shape=o["shape"],
            colour=o["colour"],
            size=o["size"],
            action=o["action"],
            at=[_position(o, a / BEAT), _position(o, b / BEAT)],
        )
        if "tc" in o:
            before, after = o["tc"] > b, o["tc"] <= a
            if k == "turn":
                q["colour1"] = o["colour1"]
                if after:
                    q["colour"] = o["colour1"]
            if before or after:
                q["action"] = "rest"
                if (k == "appear" and before) or (k == "leave" and after):
                    continue
        if k in ("grow", "shrink") and (b - a < 1.4 or a > 0.6):
            return None
        out.append(q)
    out.sort(key=lambda q: RANK[q["colour"]])
    return dict(objects=out, background=film["beats"][i]["background"]["kind"], span=b - a)


def current(film, t0, t1, step=0.5):
    """The beat that fills most of the last BEAT seconds: of frames every `step` seconds, the first
    at t0 and the last at t1.  None where no beat prevails or too little of it was seen."""
    a = max(t0, t1 - BEAT + step)
    spans = [
        (min(t1, (i + 1) * BEAT - step) - max(a, i * BEAT), i) for i in range(len(film["beats"]))
    ]
    span, i = max(spans)
    if span < 0.62 * (t1 - a):
        return None
    return seen(film, i, a, t1)


def instant(film, t):
    """A single frame at time t, as `seen` returns it; None where a size is in between."""
    i = min(int(t // BEAT), len(film["beats"]) - 1)
    u, out = t / BEAT - i, []
    for o in film["beats"][i]["objects"]:
        gone = "tc" in o and t - i * BEAT >= o["tc"]
        if (o["action"] == "appear" and not gone) or (o["action"] == "leave" and gone):
            continue
        r = _position(o, u)[2]
        if 0.18 < r < 0.23:
            return None
        out.append(
            dict(
                shape=o["shape"],
                size="small" if r < 0.2 else "large",
                action="rest",
                colour=o["colour1"] if o["action"] == "turn" and gone else o["colour"],
            )
        )
    out.sort(key=lambda q: RANK[q["colour"]])
    return dict(objects=out, background=film["beats"][i]["background"]["kind"], span=0.0)


MOTIONS = ["rest", "left", "right", "up", "down", "grow", "shrink", "change"]


def marks(film, ta, tb):
    """Where things are during a frame pair at ta and tb, for the auxiliary losses of training:
    ([(x, y, rx, ry, shape, colour, size, motion)], background class): centre and radius in parts of
    the frame's width and height, then class numbers."""
    i = min(int(ta // BEAT), len(film["beats"]) - 1)
    a, b = ta - i * BEAT, tb - i * BEAT
    out = []
    for o in film["beats"][i]["objects"]:
        k = o["action"]
        motion = MOTIONS.index(k) if k in MOTIONS else 0
        if "tc" in o:
            motion = MOTIONS.index("change") if a < o["tc"] <= b else 0
            if (k == "appear" and b < o["tc"]) or (k == "leave" and a >= o["tc"]):
                continue
        x, y, r = _position(o, min((a + b) / 2 / BEAT, 1.0))
        c = o["colour1"] if k == "turn" and a >= o["tc"] else o["colour"]
        out.append(
            (
                x / film["width"],
                y / film["height"],
                r / film["width"],
                r / film["height"],
                SHAPES.index(o["shape"]),
                RANK[c],
                int(r > 0.2),
                motion,
            )
        )
    return out, BACKGROUNDS.index(film["beats"][i]["background"]["kind"])
