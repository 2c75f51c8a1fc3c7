"""Pictures: what is on them, and how they reach the disk."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib import colormaps
from PIL import Image

from ssl_wb.errors import UsageError
from ssl_wb.plugin.masker import Grid
from ssl_wb.report.mask_pictures import MOST_LINES, SPECTRUM, WIDTH, draw_preview
from ssl_wb.report.masks import Cell, MaskColumn, MaskPreview, MaskRow, MaskView
from ssl_wb.report.picture_files import DPI, check_picture, save_picture

GRID = Grid(2, 12)


def preview(columns=(("random", 1, 0),), rows=(("a.wav", 1.0),), latents=""):
    """A preview of ``(label, views, maps)`` columns with random masks."""
    generator = np.random.default_rng(0)

    def cell(views, maps):
        seen = [MaskView(generator.normal(size=(32, 96)), generator.random(GRID) < 0.6) for _ in range(views)]
        return Cell(tuple(seen), tuple(generator.random(GRID) for _ in range(maps)))

    return MaskPreview(
        title="Small $5 recipe_$",
        columns=tuple(MaskColumn(label, latents) for label, _, _ in columns),
        rows=tuple(MaskRow(*row) for row in rows),
        cells=tuple(tuple(cell(views, maps) for _, views, maps in columns) for _ in rows),
        grid=GRID,
        patch=(16, 8),
        seconds=0.96,
        bin_hz=np.geomspace(60, 7800, 32),
        normalised_by="this clip",
    )


def panels(figure):
    """Axes with a heading, in the order drawn; the legend's have none."""
    return [axes for axes in figure.axes if axes.get_title(loc="left")]


def headings(figure):
    return [axes.get_title(loc="left") for axes in panels(figure)]


def texts(figure):
    return [text.get_text() for text in figure.texts]


def test_visible_patches_are_coloured_and_masked_ones_grey():
    drawn = preview()
    view = drawn.cells[0][0].views[0]
    (panel,) = panels(draw_preview(drawn))
    picture = np.asarray(panel.images[0].get_array()).astype(int)  # [F, T, 3]
    assert picture.shape == (32, 96, 3)
    grey = (picture.max(axis=2) == picture.min(axis=2)).reshape(2, 16, 12, 8)
    np.testing.assert_array_equal(grey.all(axis=(1, 3)), view.masked)
    np.testing.assert_array_equal(grey.any(axis=(1, 3)), view.masked)
    loudest = np.where(view.masked.repeat(16, 0).repeat(8, 1), -np.inf, view.spectrogram).argmax()
    top = (255 * np.array(colormaps[SPECTRUM](1.0)[:3])).round()
    np.testing.assert_array_equal(picture.reshape(-1, 3)[loudest], top)
    assert panel.images[0].get_extent() == [0, 0.96, 0, 32]
    assert panel.images[0].origin == "lower"
    assert panel.get_title(loc="right") == f"{100 * view.visible / 24:.0f} % visible"


def test_importance_stands_beside_the_views():
    drawn = preview([("dwm", 2, 1), ("random", 1, 0)])
    figure = draw_preview(drawn)
    assert headings(figure) == ["dwm, view 1 of 2", "dwm, view 2 of 2", "dwm, importance", "random"]
    np.testing.assert_array_equal(panels(figure)[2].images[0].get_array(), drawn.cells[0][0].importance[0])
    assert any("importance" in text for text in texts(figure))
    assert not any("importance" in text for text in texts(draw_preview(preview())))


def test_more_panels_than_fit_go_on_below_and_maskers_stay_together():
    columns = [("random", 1, 0), ("dwm", 1, 1), ("ibm", 1, 0), ("sgim", 1, 1), ("structured", 1, 0), ("tf", 2, 0)]
    figure = draw_preview(preview(columns))
    lines: dict[float, list[str]] = {}
    for axes in panels(figure):
        lines.setdefault(round(axes.get_position().y0, 6), []).append(axes.get_title(loc="left"))
    assert list(lines.values()) == [
        ["random", "dwm", "dwm, importance"],
        ["ibm", "sgim", "sgim, importance"],
        ["structured", "tf, view 1 of 2", "tf, view 2 of 2"],
    ]
    boxes = [axes.get_position() for axes in panels(figure)]
    assert all(0 < box.x0 < box.x1 <= 1 and 0 < box.y0 < box.y1 < 1 for box in boxes)


def test_rows_say_what_tells_them_apart_and_the_subtitle_the_rest():
    several = draw_preview(preview(rows=[("a.wav", 0.0), ("a.wav", 0.5), ("a.wav", 1.0)]))
    said = texts(several)
    assert said[:3] == ["at the start of training", "after 50 % of training", "at the end of training"]
    assert any(text.startswith("a.wav · 2 × 12 patches of 16 × 8 · normalised by this clip") for text in said)
    both = texts(draw_preview(preview(rows=[("a.wav", 0.5), ("b_$x$.wav", 0.5)])))
    assert both[:2] == ["a.wav", "b_$x$.wav"]
    assert any("after 50 % of training" in text for text in both)


def test_the_caption_says_whose_latents_they_are():
    assert "sgim: by the latents of the untrained student" in texts(
        draw_preview(preview([("sgim", 1, 1)], latents="untrained student"))
    )


def test_of_many_views_some_are_drawn_and_it_is_said():
    figure = draw_preview(preview([("ibm", 16, 0)]))
    assert headings(figure)[-1] == "ibm, view 4 of 16"
    assert "ibm: 4 of its 16 views" in texts(figure)


def test_long_names_are_cut_and_what_the_panel_shows_is_not():
    label = "dwm:metric=variance,probabilistic=false,hint=0.25"
    view, importance, *_ = headings(draw_preview(preview([(label, 1, 1), ("random", 2, 0)])))
    assert view.startswith("dwm:metric")
    assert view.endswith("…")
    assert importance.endswith("…, importance")


@pytest.mark.parametrize("ending", ["png", "pdf", "svg"])
def test_the_ending_says_the_format_and_the_same_picture_is_the_same_file(tmp_path, ending):
    out = tmp_path / "new" / f"mask.{ending}"
    again = tmp_path / f"again.{ending}"
    for path in (out, again):
        save_picture(draw_preview(preview([("dwm", 1, 1)])), path)
    begin = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}[ending]
    assert out.read_bytes().startswith(begin)
    assert out.read_bytes() == again.read_bytes()
    assert [path.name for path in out.parent.iterdir()] == [out.name]


def test_a_png_is_twice_readme_width_and_small(tmp_path):
    out = tmp_path / "mask.png"
    save_picture(draw_preview(preview([("dwm", 1, 1), ("random", 1, 0)])), out)
    with Image.open(out) as image:
        assert image.width == round(WIDTH * DPI)
        assert 300 < image.height < image.width
        assert len(image.convert("RGB").getcolors(1 << 24)) > 50
    assert out.stat().st_size < 400_000


def test_what_cannot_be_written_is_told_before_the_work(tmp_path):
    there = tmp_path / "mask.png"
    there.write_bytes(b"mine")
    with pytest.raises(UsageError, match="already there"):
        check_picture(there, overwrite=False)
    check_picture(there, overwrite=True)
    for wrong in ("mask.gif", "mask"):
        with pytest.raises(UsageError, match="cannot draw"):
            check_picture(tmp_path / wrong, overwrite=True)
    folder = tmp_path / "folder.png"
    folder.mkdir()
    with pytest.raises(UsageError, match="is a folder"):
        check_picture(folder, overwrite=True)
    with pytest.raises(UsageError, match="cannot write"):
        save_picture(draw_preview(preview()), there / "below.png")
    assert there.read_bytes() == b"mine"


def test_a_picture_too_tall_is_refused():
    rows = [("a.wav", number / MOST_LINES) for number in range(MOST_LINES + 1)]
    with pytest.raises(UsageError, match="too many for a picture"):
        draw_preview(preview(rows=rows))
