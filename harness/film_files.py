"""A film on paper and in motion: a strip as PNG, all episodes side by side as animated GIF."""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from harness.filming import Film, Take

DRAWING = 1
"""Goes up when films come to look different: those that lie there are then drawn again."""
COLUMNS = 6
COLOURS = 128
FRAME_MS, LAST_MS = 100, 1500
PANEL = (160, 120)
MOST_BYTES = 1_400_000
QUALITIES = ((128, 1), (64, 1), (32, 1), (32, 2), (16, 4))
"""Colours of an animation, and which share of the frames it has: the best that is small enough."""
PAPER, INK, SOFT = (255, 255, 255), (26, 27, 28), (92, 96, 102)
MARGIN, GAP, LABEL, LINE = 12, 4, 176, 17


def strip(film: Film, title: str, texts: dict[str, str]) -> bytes:
    """A row per take, a column per moment. ``texts``: kept in the file under their names."""
    shown = np.unique(np.linspace(0, len(film.steps) - 1, COLUMNS).round().astype(int)).tolist()
    height, width = film.takes[0].pictures.shape[1:3]
    tops, size = _rows(film, height, MARGIN + 2 * LINE + 6)
    sheet = Image.new("RGB", (2 * MARGIN + LABEL + len(shown) * (width + GAP) - GAP, size), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, MARGIN - 2), title, INK, _font(13, bold=True))
    for take, top in zip(film.takes, tops, strict=True):
        for number, (text, colour, bold) in enumerate(_label(take, film)):
            draw.text((MARGIN, top + 22 + number * (LINE + 3)), text, colour, _font(13, bold))
        for column, moment in enumerate(shown):
            left = MARGIN + LABEL + column * (width + GAP)
            sheet.paste(_picture(take, moment, film), (left, top))
            if top == tops[0]:
                draw.text((left, top - LINE - 1), f"{_seconds(film, moment)} s", SOFT, _font(12))
    known = PngInfo()
    for name, text in texts.items():
        known.add_text(name, text)
    buffer = io.BytesIO()
    few = sheet.quantize(COLOURS, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    few.save(buffer, "PNG", optimize=True, pnginfo=known)
    return buffer.getvalue()


def animation(film: Film, title: str) -> bytes:
    """All takes at once, those of a task in one row, in as many colours and frames as the size of the file allows."""
    frames = [_frame(film, title, moment) for moment in range(len(film.steps))]
    content = b""
    for colours, every in QUALITIES:
        content = _gif(frames[::every], colours, FRAME_MS * every)
        if len(content) <= MOST_BYTES:
            break
    return content


def words(film: Film) -> list[str]:
    """What the takes show, a line each."""
    return [
        f"{take.task}, {take.when}: {', '.join(text for text, *_ in _label(take, film)[2:])}" for take in film.takes
    ]


def _rows(film: Film, height: int, top: int) -> tuple[list[int], int]:
    """Where the row of every take begins, with more room between tasks, and where the sheet ends."""
    tops = []
    for number, take in enumerate(film.takes):
        if number:
            top += height + (GAP if take.task == film.takes[number - 1].task else 4 * GAP)
        tops.append(top)
    return tops, top + height + MARGIN


def _label(take: Take, film: Film) -> list[tuple[str, tuple[int, int, int], bool]]:
    lines = [(take.task, INK, True), (take.when, INK, False)]
    lines += [(f"return {take.episode_return:.1f}".replace("-", "−"), SOFT, False), (take.came, SOFT, False)]
    if take.ended:
        lines.append((f"ended at {take.length * film.control_step:.2f} s", SOFT, False))
    return lines


def _seconds(film: Film, moment: int) -> str:
    return f"{film.steps[moment] * film.control_step:.2f}"


def _picture(take: Take, moment: int, film: Film) -> Image.Image:
    """Pale where the episode is over."""
    image = Image.fromarray(take.pictures[moment].numpy())
    if take.ended and film.steps[moment] > take.length:
        image = Image.blend(image.convert("L").convert("RGB"), Image.new("RGB", image.size, PAPER), 0.6)
    return image


def _frame(film: Film, title: str, moment: int) -> Image.Image:
    per_task = len({take.when for take in film.takes})
    width, height, head = PANEL[0] + GAP, PANEL[1] + 2 * 13 + 2 * GAP, 34
    rows = -(-len(film.takes) // per_task)
    sheet = Image.new("RGB", (GAP + per_task * width, head + rows * height), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((GAP, 2), title, INK, _font(10, bold=True))
    draw.text((GAP, 16), f"{_seconds(film, moment)} s", SOFT, _font(11))
    for number, take in enumerate(film.takes):
        left, top = GAP + number % per_task * width, head + number // per_task * height
        draw.text((left, top), f"{take.task}, {take.when}", INK, _font(10, bold=True))
        draw.text((left, top + 13), ", ".join(text for text, *_ in _label(take, film)[2:4]), SOFT, _font(10))
        sheet.paste(_picture(take, moment, film).resize(PANEL, Image.Resampling.LANCZOS), (left, top + 26 + GAP // 2))
    return sheet


def _gif(frames: list[Image.Image], colours: int, frame_ms: int) -> bytes:
    """All frames in the same colours: what does not move is then the same bytes."""
    some = frames[:: max(1, len(frames) // 6)]
    montage = Image.new("RGB", (some[0].width, some[0].height * len(some)))
    for number, frame in enumerate(some):
        montage.paste(frame, (0, number * frame.height))
    palette = montage.quantize(colours, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    first, *others = (frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames)
    buffer = io.BytesIO()
    durations = [frame_ms] * len(others) + [LAST_MS]
    first.save(buffer, "GIF", save_all=True, append_images=others, duration=durations, loop=0)
    return buffer.getvalue()


@cache
def _font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """The font that comes with matplotlib: the same letters on every machine."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name), size)
