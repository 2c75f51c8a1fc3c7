"""The picture of the house, from the floors that tests/test_rooms.py holds."""

from __future__ import annotations

import ast
from pathlib import Path

__all__ = ["house"]


def house(test: Path) -> str:
    """Draw the rooms, floor by floor, as SVG.

    Args:
        test: file that assigns the list of floors, from the ground up, to ``FLOORS``.
    """
    source = test.read_text(encoding="utf-8")
    nodes = [node for node in ast.parse(source).body if isinstance(node, ast.AnnAssign)]
    floors = next(ast.literal_eval(node.value) for node in nodes if getattr(node.target, "id", "") == "FLOORS")  # type: ignore[arg-type]
    floors = [rooms for rooms in floors if rooms != {"__main__"}]
    width, high, gap, wide = 760, 40, 8, 600
    height = (len(floors) + 1) * (high + gap) + 40
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"',
        ' font-family="sans-serif" font-size="15">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    for level, rooms in enumerate(reversed([sorted(floor) for floor in floors])):
        y = 20 + level * (high + gap)
        each = (wide - gap * (len(rooms) - 1)) / len(rooms)
        lines.append(f'<text x="16" y="{y + 25}" fill="#78909c" font-size="12">floor {len(floors) - 1 - level}</text>')
        for place, room in enumerate(rooms):
            x = 80 + place * (each + gap)
            fill = "#ffe0b2" if room == "api" else "#e8eaf6"
            lines.append(
                f'<rect x="{x:.1f}" y="{y}" width="{each:.1f}" height="{high}" rx="5" fill="{fill}" stroke="#5c6bc0"/>'
            )
            lines.append(f'<text x="{x + each / 2:.1f}" y="{y + 25}" text-anchor="middle" fill="#1a237e">{room}</text>')
    api = len(floors) - 1 - next(level for level, floor in enumerate(floors) if "api" in floor)
    y = 20 + api * (high + gap)
    lines.append(f'<text x="690" y="{y + 18}" fill="#bf360c" font-size="12">← plugins</text>')
    lines.append(f'<text x="690" y="{y + 33}" fill="#bf360c" font-size="12">import this</text>')
    y = 20 + len(floors) * (high + gap)
    lines.append(
        f'<text x="80" y="{y + 14}" fill="#546e7a" font-size="13">A room imports rooms on lower floors only.</text>'
    )
    return "\n".join([*lines, "</svg>"]) + "\n"
