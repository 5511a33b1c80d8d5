# SPDX-License-Identifier: LGPL-2.1-or-later
# bench/plot_stream.py — draws what long_stream wrote, as SVG, and sums it up in words.
#   python3 plot_stream.py stream.csv stream.svg
import csv
import sys
from html import escape

WIDTH, HEIGHT, LEFT, TOP, GAP = 900, 190, 80, 40, 50
CURVES = [
    ("rss_mib", "resident memory, MiB"),
    ("device_mib", "device memory, MiB"),
    ("caption_s", "seconds from caption to caption"),
    ("context_tokens", "tokens in the context"),
]


def read(path):
    with open(path, newline="", encoding="utf-8") as f:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(f)]


def panel(rows, name, title, top):
    # The largest of each few captions: a spike stays visible.
    step = max(1, len(rows) // 450)
    xs = [rows[i]["film_hours"] for i in range(0, len(rows), step)]
    ys = [max(r[name] for r in rows[i:i + step]) for i in range(0, len(rows), step)]
    x_max, y_max = max(xs) or 1, max(ys) * 1.1 or 1
    points = " ".join(f"{LEFT + x / x_max * WIDTH:.1f},{top + HEIGHT - y / y_max * HEIGHT:.1f}"
                      for x, y in zip(xs, ys))
    out = [f'<text x="{LEFT}" y="{top - 8}" font-weight="bold">{escape(title)}</text>',
           f'<rect x="{LEFT}" y="{top}" width="{WIDTH}" height="{HEIGHT}" fill="none" '
           'stroke="#999"/>']
    for i in range(5):
        y = top + HEIGHT - i / 4 * HEIGHT
        out.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">'
                   f'{y_max * i / 4:.4g}</text>')
        out.append(f'<line x1="{LEFT}" y1="{y:.1f}" x2="{LEFT + WIDTH}" y2="{y:.1f}" '
                   'stroke="#ddd"/>')
    out.append(f'<polyline points="{points}" fill="none" stroke="#0a58a8"/>')
    for i in range(7):
        x = LEFT + i / 6 * WIDTH
        out.append(f'<text x="{x:.1f}" y="{top + HEIGHT + 16}" text-anchor="middle">'
                   f'{x_max * i / 6:.2f} h</text>')
    return out


def slope(rows, name):
    """Least-squares slope per hour of film, after the first tenth."""
    rows = rows[len(rows) // 10:]
    n = len(rows)
    mx = sum(r["film_hours"] for r in rows) / n
    my = sum(r[name] for r in rows) / n
    var = sum((r["film_hours"] - mx) ** 2 for r in rows)
    return sum((r["film_hours"] - mx) * (r[name] - my) for r in rows) / var if var else 0.0


def median(values):
    values = sorted(values)
    return values[len(values) // 2]


def main():
    rows = read(sys.argv[1])
    height = TOP + len(CURVES) * (HEIGHT + GAP)
    svg = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 40}" '
           f'height="{height}" font-family="sans-serif" font-size="12">',
           '<rect width="100%" height="100%" fill="white"/>']
    for i, (name, title) in enumerate(CURVES):
        svg += panel(rows, name, title, TOP + i * (HEIGHT + GAP))
    svg.append("</svg>")
    with open(sys.argv[2], "w", encoding="utf-8") as f:
        f.write("\n".join(svg) + "\n")
    tenth = max(1, len(rows) // 10)
    print(f"{len(rows)} captions of {rows[-1]['film_hours']:.2f} hours of film "
          f"in {rows[-1]['wall_s'] / 60:.1f} minutes")
    for name, title in CURVES:
        print(f"{title}: median {median([r[name] for r in rows[:tenth]]):.2f} in the first tenth, "
              f"{median([r[name] for r in rows[-tenth:]]):.2f} in the last; "
              f"slope {slope(rows, name):+.3f} per hour of film")


if __name__ == "__main__":
    main()
