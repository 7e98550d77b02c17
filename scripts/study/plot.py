"""Shares by group as bars, in SVG."""

from html import escape

COLOURS = ("#b8c0cc", "#7d8ca3", "#2f6fb2", "#8ab6e0", "#d9822b", "#5d9b6a")
WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 860, 360, 48, 48, 92


def shares(title: str, systems: list[tuple[str, list[tuple[float, float, float]]]], groups: list[str]) -> str:
    """A bar for the mean of each system in each group, with a line from the lowest to the highest of its seeds."""
    width, height = WIDTH - LEFT - 12, HEIGHT - TOP - BOTTOM
    y = lambda value: TOP + height * (1 - value)
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
             f'font-size="12"><rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
             f'<text x="{LEFT}" y="24" font-size="15">{escape(title)}: exact match by test, %</text>']
    for tenth in range(0, 11, 2):
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - 12}" y1="{y(tenth / 10):.1f}" y2="{y(tenth / 10):.1f}" '
                     f'stroke="#e4e7eb"/><text x="{LEFT - 8}" y="{y(tenth / 10) + 4:.1f}" text-anchor="end">{10 * tenth}</text>')
    slot = width / max(len(groups), 1)
    bar = slot * 0.84 / max(len(systems), 1)
    for g, group in enumerate(groups):
        start = LEFT + g * slot + slot * 0.08
        parts.append(f'<text x="{start + slot * 0.42:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{escape(group)}</text>')
        for s, (_, values) in enumerate(systems):
            mean, low, high = values[g]
            x = start + s * bar
            parts.append(f'<rect x="{x:.1f}" y="{y(mean):.1f}" width="{bar * 0.9:.1f}" height="{height * mean:.1f}" '
                         f'fill="{COLOURS[s % len(COLOURS)]}"/>')
            if high > low:
                middle = x + bar * 0.45
                parts.append(f'<line x1="{middle:.1f}" x2="{middle:.1f}" y1="{y(low):.1f}" y2="{y(high):.1f}" stroke="black"/>')
            parts.append(f'<text x="{x + bar * 0.45:.1f}" y="{y(max(mean, high)) - 4:.1f}" text-anchor="middle" '
                         f'font-size="10">{100 * mean:.0f}</text>')
    for s, (name, _) in enumerate(systems):
        x, line = LEFT + (s % 2) * width / 2, HEIGHT - BOTTOM + 40 + (s // 2) * 18
        parts.append(f'<rect x="{x:.1f}" y="{line - 10}" width="12" height="12" fill="{COLOURS[s % len(COLOURS)]}"/>'
                     f'<text x="{x + 18:.1f}" y="{line}">{escape(name)}</text>')
    return "\n".join(parts) + "\n</svg>\n"
