"""Has matplotlib draw every character that some font of the sandbox has.

matplotlib looks for a character in the fonts that a chart asks for, and draws a
box if none of them has it. A list of families in its settings isn't enough:
styles and seaborn replace it, and code from elsewhere asks for the fonts of
another system. So the families below stand behind whatever is asked for.
"""

import logging
import os

# By script, the most used first: each is looked at only for what those before
# it don't have. The files are opened with the first text of a chart.
_FOLDER = "/usr/share/fonts/truetype"
FILES = [
    f"{_FOLDER}/dejavu/DejaVuSans.ttf",
    "/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc",
    *(
        f"{_FOLDER}/noto/NotoSans{script}-Regular.ttf"
        for script in (
            "Arabic Hebrew Devanagari Bengali Gurmukhi Gujarati Oriya Tamil Telugu Kannada"
            " Malayalam Sinhala Thai Lao Myanmar Khmer Georgian Armenian Ethiopic"
            " Math Symbols Symbols2"
        ).split()
    ),
    f"{_FOLDER}/noto/NotoSerifTibetan-Regular.ttf",
    f"{_FOLDER}/ancient-scripts/Symbola_hint.ttf",
]
FILES = [file for file in FILES if os.path.exists(file)]
_BOLD = 600  # the weight that begins to be bold


def _bold(file):
    for regular, bold in (("-Regular.", "-Bold."), ("DejaVuSans.", "DejaVuSans-Bold.")):
        if os.path.exists(file.replace(regular, bold)):
            file = file.replace(regular, bold)
    return file


BOLD_FILES = [_bold(file) for file in FILES]

# Mathematics has characters of its own up to here, and from 0x2000 to 0x2BFF.
_FIRST_LETTER = 0x0590
_SYMBOLS = range(0x2000, 0x2C00)


def patch(module):
    if module.__name__ == "matplotlib._mathtext":
        _patch_mathtext(module)
    else:
        _patch_fonts(module)


def _patch_fonts(font_manager):
    stock = font_manager.FontManager._find_fonts_by_props

    def find(self, prop, fontext="ttf", *args, **kwargs):
        found = stock(self, prop, fontext, *args, **kwargs)
        if fontext == "ttf":
            weight = font_manager.FontProperties._from_any(prop).get_weight()
            bold = font_manager.weight_dict.get(weight, weight) >= _BOLD
            found += [file for file in (BOLD_FILES if bold else FILES) if file not in found]
        return found

    font_manager.FontManager._find_fonts_by_props = find
    logging.getLogger(font_manager.__name__).addFilter(_Once())


class _Once(logging.Filter):
    """Says once that a font is missing, not once for each text of the chart."""

    def __init__(self):
        super().__init__()
        self._said = set()

    def filter(self, record):
        message = record.getMessage()
        if message in self._said:
            return False
        self._said.add(message)
        return True


def _patch_mathtext(mathtext):
    """Text between dollar signs, which need not be meant as mathematics."""
    from matplotlib.font_manager import get_font

    stock = mathtext.UnicodeFonts._get_glyph

    def get_glyph(self, fontname, font_class, sym):
        if len(sym) == 1 and ord(sym) >= _FIRST_LETTER and ord(sym) not in _SYMBOLS:
            for file in FILES:
                font = get_font(file)
                if font.get_char_index(ord(sym)):
                    return font, ord(sym), False
        return stock(self, fontname, font_class, sym)

    mathtext.UnicodeFonts._get_glyph = get_glyph
