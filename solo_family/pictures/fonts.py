"""Draw names in all scripts, by the fonts that this machine has."""

from __future__ import annotations

import logging
import unicodedata
from functools import cache, lru_cache

from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.text import Text

logger = logging.getLogger(__name__)

# A font that newer versions of matplotlib bring along: it has a box for every letter.
_BOXES = "Last Resort"

# Of all that was said to be missing; said once.
_said: set[str] = set()


def have_all_letters(figure: Figure) -> None:
    """Let the texts of a figure fall back to other fonts for letters that their own lacks.

    Matplotlib's own font has Latin, Greek, Cyrillic and Arabic letters. Letters that no font of
    this machine has are drawn as boxes, which a warning says once.

    Args:
        figure: is changed in place.
    """
    for text in figure.findobj(Text):
        letters = frozenset(filter(_is_drawn, text.get_text()))
        missing = letters - _letters(font_manager.findfont(text.get_fontproperties()))
        if not missing:
            continue
        families, without = _fallback(missing)
        text.set_fontfamily([*text.get_fontfamily(), *families])
        if without - _said:
            _said.update(without)
            logger.warning(
                "No font of this machine has %s: such letters are drawn as boxes. Install one that "
                "has them; Noto's fonts have nearly all (on Debian and Ubuntu: apt install "
                "fonts-noto-cjk for Chinese, Japanese and Korean, fonts-noto-core for others).",
                " ".join(sorted(without)),
            )


def _is_drawn(letter: str) -> bool:
    return not letter.isspace() and unicodedata.category(letter) not in ("Cc", "Cf")


@lru_cache
def _fallback(missing: frozenset[str]) -> tuple[list[str], frozenset[str]]:
    """Return the families that have letters, and the letters that none has."""
    known = {font.fname for font in font_manager.fontManager.ttflist}
    for path in sorted(set(font_manager.findSystemFonts()) - known):
        try:
            font_manager.fontManager.addfont(path)  # installed after matplotlib made its list
        except (OSError, RuntimeError, ValueError):
            continue
    families: list[str] = []
    # Upright regular faces first, then the shortest names: "Noto Sans" before its variants.
    fonts = sorted(
        font_manager.fontManager.ttflist,
        key=lambda font: (font.style != "normal", font.weight != 400, len(font.name), font.name),
    )
    for font in fonts:
        if font.name.startswith(_BOXES):
            continue
        found = missing & _letters(font.fname)
        if found:
            families.append(font.name)
            missing -= found
        if not missing:
            break
    return families, missing


@cache
def _letters(path: str) -> frozenset[str]:
    """Return the letters of a font's file; none of one that can't be read."""
    try:
        return frozenset(map(chr, font_manager.get_font(path).get_charmap()))
    except (OSError, RuntimeError, ValueError):
        return frozenset()
