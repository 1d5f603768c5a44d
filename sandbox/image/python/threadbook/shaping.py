"""Sets text in matplotlib that needs more than a letter after the other.

matplotlib draws characters from left to right, each as it stands alone. That
turns Arabic and Hebrew around, takes Arabic words apart, and leaves the signs
of Indic scripts in the wrong places. Such text is set by Pango instead, as
browsers and office programs do it, and drawn as the picture that comes of it.

This is for PNG, which is what a chart is shown as. In SVG and PDF files these
scripts remain as matplotlib has them.

Text that has been turned around for matplotlib already is left alone, which can
be told by its Arabic presentation forms.
"""

import ctypes
import functools
import math
import re

from threadbook import fonts

_COMPLEX = re.compile(
    "[\u0590-\u0fff"  # Hebrew, Arabic, Syriac, Indic, Thai, Lao, Tibetan
    "\u1000-\u109f\u1780-\u18af\u1a20-\u1aaf"  # Burmese, Khmer, Mongolian, Tai Tham
    "\u0300-\u036f\u200c-\u200f\u202a-\u202e\u2066-\u2069"  # accents of their own, directions
    "\ufe0e\ufe0f\U0001f3fb-\U0001f3ff]"  # kinds of emoji
)
_TONES = re.compile("[\U0001f3fb-\U0001f3ff]")  # of skin, of which black and white has none
_DONE = re.compile("[\ufb50-\ufdff\ufe70-\ufeff]")

SCALE = 1024  # Pango's units to a pixel


class _Rectangle(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int) for name in ("x", "y", "width", "height")]


class _Bitmap(ctypes.Structure):
    """FreeType's FT_Bitmap."""

    _fields_ = [
        ("rows", ctypes.c_uint),
        ("width", ctypes.c_uint),
        ("pitch", ctypes.c_int),
        ("buffer", ctypes.c_void_p),
        ("num_grays", ctypes.c_ushort),
        ("pixel_mode", ctypes.c_ubyte),
        ("palette_mode", ctypes.c_ubyte),
        ("palette", ctypes.c_void_p),
    ]


_GRAY = 2  # FT_PIXEL_MODE_GRAY

# name → result, arguments. Without these ctypes cuts pointers to 32 bits.
_P, _I, _D, _S = ctypes.c_void_p, ctypes.c_int, ctypes.c_double, ctypes.c_char_p
_PANGO = {
    "pango_font_map_create_context": (_P, _P),
    "pango_layout_new": (_P, _P),
    "pango_layout_set_text": (None, _P, _S, _I),
    "pango_layout_set_single_paragraph_mode": (None, _P, _I),
    "pango_layout_set_font_description": (None, _P, _P),
    "pango_layout_get_baseline": (_I, _P),
    "pango_layout_get_pixel_extents": (None, _P, _P, _P),
    "pango_font_description_new": (_P,),
    "pango_font_description_free": (None, _P),
    "pango_font_description_set_family": (None, _P, _S),
    "pango_font_description_set_weight": (None, _P, _I),
    "pango_font_description_set_style": (None, _P, _I),
    "pango_font_description_set_absolute_size": (None, _P, _D),
}
_PANGOFT2 = {"pango_ft2_font_map_new": (_P,), "pango_ft2_render_layout": (None, _P, _P, _I, _I)}
_GOBJECT = {"g_object_unref": (None, _P)}

_STYLES = {"normal": 0, "oblique": 1, "italic": 2}


@functools.cache
def _library():
    """The functions of Pango, by name."""
    found = {}
    for file, functions in (
        ("libpango-1.0.so.0", _PANGO),
        ("libpangoft2-1.0.so.0", _PANGOFT2),
        ("libgobject-2.0.so.0", _GOBJECT),
    ):
        library = ctypes.CDLL(file)
        for name, (result, *arguments) in functions.items():
            found[name] = getattr(library, name)
            found[name].restype, found[name].argtypes = result, arguments
    return found


@functools.cache
def _context():
    pango = _library()
    return pango["pango_font_map_create_context"](pango["pango_ft2_font_map_new"]())


@functools.lru_cache(256)
def _set(text, families, weight, style, pixels):
    """Sets a line of text: (picture, advance, left edge, descent), in pixels."""
    import numpy

    pango = _library()
    layout = pango["pango_layout_new"](_context())
    description = pango["pango_font_description_new"]()
    try:
        pango["pango_font_description_set_family"](description, families.encode())
        pango["pango_font_description_set_weight"](description, weight)
        pango["pango_font_description_set_style"](description, _STYLES.get(style, 0))
        pango["pango_font_description_set_absolute_size"](description, pixels * SCALE)
        pango["pango_layout_set_font_description"](layout, description)
        pango["pango_layout_set_single_paragraph_mode"](layout, 1)
        line = _TONES.sub("", text).encode("utf-8", "replace")
        pango["pango_layout_set_text"](layout, line, len(line))
        ink, logical = _Rectangle(), _Rectangle()
        pango["pango_layout_get_pixel_extents"](layout, ctypes.byref(ink), ctypes.byref(logical))
        picture = numpy.zeros((max(ink.height, 1), max(ink.width, 1)), numpy.uint8)
        rows, width = picture.shape
        bitmap = _Bitmap(rows, width, width, picture.ctypes.data, 256, _GRAY, 0, None)
        pango["pango_ft2_render_layout"](ctypes.byref(bitmap), layout, -ink.x, -ink.y)
        baseline = pango["pango_layout_get_baseline"](layout) / SCALE
        return picture, max(logical.width, ink.x + ink.width), ink.x, ink.y + rows - baseline
    finally:
        pango["pango_font_description_free"](description)
        pango["g_object_unref"](layout)


@functools.cache
def _fallbacks():
    from matplotlib.font_manager import get_font

    return [get_font(file).family_name for file in fonts.FILES]


def _is_complex(text):
    return bool(_COMPLEX.search(text)) and not _DONE.search(text)


def patch(backend_agg):
    from matplotlib.font_manager import get_font, weight_dict

    renderer = backend_agg.RendererAgg
    stock_draw, stock_measure = renderer.draw_text, renderer.get_text_width_height_descent

    def typeset(self, text, prop):
        # The font that matplotlib would take, in which Latin text is set too.
        first = backend_agg._fontManager._find_fonts_by_props(prop)[0]
        families = ",".join([get_font(first).family_name, *_fallbacks()])
        weight = prop.get_weight()
        pixels = prop.get_size_in_points() * self.dpi / 72
        return _set(text, families, int(weight_dict.get(weight, weight)), prop.get_style(), pixels)

    def draw_text(self, gc, x, y, s, prop, angle, ismath=False, mtext=None):
        if ismath or not _is_complex(s):
            return stock_draw(self, gc, x, y, s, prop, angle, ismath=ismath, mtext=mtext)
        picture, _, left, descent = typeset(self, s, prop)
        sin, cos = math.sin(math.radians(angle)), math.cos(math.radians(angle))
        x = round(x + left * cos + descent * sin)
        y = round(y - left * sin + descent * cos)
        self._renderer.draw_text_image(picture, x, y + 1, angle, gc)

    def get_text_width_height_descent(self, s, prop, ismath):
        if ismath or not _is_complex(s):
            return stock_measure(self, s, prop, ismath)
        picture, advance, _, descent = typeset(self, s, prop)
        return advance, picture.shape[0], descent

    renderer.draw_text = draw_text
    renderer.get_text_width_height_descent = get_text_width_height_descent
