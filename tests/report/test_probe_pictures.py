"""Pictures of layer probes and spectra: every encoder's numbers where they belong."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
from PIL import Image

from ssl_wb.cli.main import run as ssl_wb
from ssl_wb.errors import UsageError
from ssl_wb.evaluation.results import Row
from ssl_wb.plugin.evaluator import Result
from ssl_wb.report.probe_pictures import check_chart_folder, draw_layers, draw_probes, draw_spectrum


def result(evaluator, mean=0.6, *, percent=True, metric="accuracy", table=None, detail=None):
    return Result(
        "esc", evaluator, metric, mean, (0.5, 0.7), {}, [mean], table=table or {}, detail=detail or {}, percent=percent
    )


def layers(encoder, curve, *, role="encoder", task="esc", summed=0.65, chance=0.1):
    table = {**{f"layer {number + 1}": score for number, score in enumerate(curve)}, "weighted sum": summed}
    table |= {"macro F1": 0.5, "d-prime": 2.7}  # on a scale of their own
    rising = [float(number + 1) for number in range(len(curve))]
    detail = {
        "per layer": curve,
        "all layers": {"weighted sum": summed},
        "weighted-sum weights": {"a": np.divide(rising, sum(rising)).tolist(), "b": [1.0 / len(curve)] * len(curve)},
    }
    return Row(encoder, task, "layers", result("layers", table=table, detail=detail), role, chance)


def spectrum(encoder, values, *, role="encoder", hidden=None):
    detail = {"singular values": values}
    if hidden:
        detail["hidden"] = {"share": list(hidden), "effective rank": list(hidden.values()), "singular values": []}
    return Row(
        encoder,
        "esc",
        "spectrum",
        result("spectrum", 12.34, percent=False, metric="effective rank", detail=detail),
        role,
    )


LAYERS = [
    layers("mae", [0.3, 0.5, 0.7]),
    layers("mae, untrained", [0.2, 0.2, 0.1], role="untrained"),
    layers("m2d", [0.4, 0.6, 0.8, 0.9], summed=0.92),
    layers("m2d, untrained", [0.2, 0.3, 0.3, 0.2], role="untrained"),
]
SPECTRA = [
    spectrum("mae", [1.0, 0.1, 0.01, 1e-9, 0.0], hidden={0.0: 30.0, 0.75: 36.0}),
    spectrum("mae, untrained", [1.0, 0.001], role="untrained", hidden={0.0: 17.0, 0.75: 26.0}),
    spectrum("log-mel", [1.0, 0.2], role="baseline"),
]


def curves(axes):
    """Lines of several points drawn with a marker or without, leaving out thin grey ones."""
    return [line for line in axes.get_lines() if line.get_linewidth() > 1.0 and line.get_linestyle() != "None"]


def test_scores_by_layer_and_of_all_layers_together():
    scores, weights = draw_layers(LAYERS).axes
    found = curves(scores)
    for row, line in zip(LAYERS, found, strict=True):
        expected = 100 * np.array(row.result.detail["per layer"])
        np.testing.assert_allclose(line.get_xdata(), np.arange(1, len(expected) + 1))
        np.testing.assert_allclose(line.get_ydata(), expected)
    ticks = [label.get_text() for label in scores.get_xticklabels()]
    assert ticks == ["1", "2", "3", "4", "weighted\nsum"]
    alone = [line for line in scores.get_lines() if line.get_linestyle() == "None"]
    assert [line.get_ydata()[0] for line in alone] == pytest.approx([65.0, 65.0, 92.0, 65.0])
    places = [line.get_xdata()[0] for line in alone]
    assert len(set(places)) == 4
    assert all(4.5 < place < 5.5 for place in places)
    assert scores.get_ylabel() == "accuracy, %"
    assert any(line.get_ydata()[0] == pytest.approx(10.0) for line in scores.get_lines())
    assert [text.get_text() for text in scores.texts] == ["chance"]
    low, high = scores.get_ylim()
    assert 0 < low < 10.0 < 92.0 < high < 105.0
    np.testing.assert_allclose(curves(weights)[0].get_ydata(), 100 * (np.array([1, 2, 3]) / 6 + 1 / 3) / 2)


def test_chance_far_below_the_scores_is_told_in_words():
    scores = draw_layers([layers("mae", [0.8, 0.9]), layers("m2d", [0.85, 0.95])]).axes[0]
    assert [text.get_text() for text in scores.texts] == ["chance is 10.0"]
    low, high = scores.get_ylim()
    assert 50.0 < low < 65.0  # the weighted sum's is the lowest score
    assert high > 95.0


def test_a_run_and_its_untrained_self_share_a_colour():
    figure = draw_layers(LAYERS)
    mae, untrained, m2d, other = curves(figure.axes[0])
    assert mae.get_color() == untrained.get_color() != m2d.get_color() == other.get_color()
    assert [line.get_linestyle() for line in (mae, untrained)] == ["-", "--"]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [row.encoder for row in LAYERS]
    assert [line.get_linestyle() for line in legend.get_lines()] == ["-", "--", "-", "--"]


def test_singular_values_on_a_logarithmic_axis():
    figure = draw_spectrum(SPECTRA)
    values, hidden = figure.axes
    assert values.get_yscale() == "log"
    shown = [line.get_ydata() for line in curves(values)]
    np.testing.assert_allclose(shown[0], [1.0, 0.1, 0.01, np.nan, np.nan])  # rounding is not drawn
    assert [len(each) for each in shown] == [5, 2, 2]
    ranks = [(line.get_xdata().tolist(), line.get_ydata().tolist()) for line in curves(hidden)]
    assert ranks == [([0.0, 75.0], [30.0, 36.0]), ([0.0, 75.0], [17.0, 26.0])]
    assert figure.legends[0].get_texts()[0].get_text() == "mae (12.3)"
    assert figure.legends[0].get_title().get_text() == "in brackets: effective rank"


def test_without_hidden_patches_there_is_one_panel():
    (values,) = draw_spectrum(SPECTRA[2:]).axes
    assert curves(values)[0].get_linestyle() == ":"


def test_one_picture_for_each_task_and_evaluator(tmp_path):
    knn = Row("mae", "esc", "knn", result("knn"))
    scenes = layers("mae", [0.1, 0.2], task="synthetic:scenes $x_1$")
    written = draw_probes([*LAYERS, *SPECTRA, knn, scenes], tmp_path / "new" / "charts")
    assert [path.name for path in written] == [
        "esc-layers.png",
        "esc-spectrum.png",
        "synthetic-scenes-x_1-layers.png",
    ]
    assert sorted(path.name for path in (tmp_path / "new" / "charts").iterdir()) == sorted(p.name for p in written)
    for path in written:
        with Image.open(path) as image:
            assert image.format == "PNG"
            assert min(image.size) > 600
    again = written[0].read_bytes()
    draw_probes(LAYERS, tmp_path / "new" / "charts")
    assert written[0].read_bytes() == again


def test_nothing_to_draw_is_no_picture(tmp_path):
    assert draw_probes([Row("mae", "esc", "knn", result("knn"))], tmp_path / "charts") == []
    assert not (tmp_path / "charts").exists()


def test_a_file_in_place_of_the_folder_is_told_at_once(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "charts"):
        with pytest.raises(UsageError, match="is a file"):
            check_chart_folder(folder)
    check_chart_folder(tmp_path / "new" / "charts")
    check_chart_folder(tmp_path)


@pytest.fixture
def manifest(tmp_path):
    """Twenty-four clips of two classes that sound alike to nobody."""
    random = np.random.default_rng(0)
    lines = ["path,label"]
    for number in range(24):
        pitch = (300.0, 2400.0)[number % 2]
        wave = 0.3 * np.sin(2 * np.pi * pitch * np.arange(6400) / 16000) + 0.02 * random.standard_normal(6400)
        soundfile.write(tmp_path / f"{number}.wav", wave, 16000)
        lines.append(f"{number}.wav,{'ab'[number % 2]}")
    (tmp_path / "tones.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "tones.csv"


def test_evaluate_draws_and_says_where(small_run, manifest, tmp_path, capsys):
    words = ["evaluate", str(small_run), "--task", str(manifest), "--no-cache", "--device", "cpu", "--seeds", "1"]
    quick = ["--set", "layers.epochs=2", "--set", "layers.lr=0.01", "--csv"]
    both = ["--evaluator", "layers", "--evaluator", "spectrum", "--chart", str(tmp_path / "charts")]
    assert ssl_wb([*words, *quick, *both]) == 0
    out, err = capsys.readouterr()
    names = ["tones-layers.png", "tones-spectrum.png"]
    drawn = [line.removeprefix("drawn: ") for line in err.splitlines() if line.startswith("drawn: ")]
    assert drawn == [str(tmp_path / "charts" / name) for name in names]
    assert sorted(path.name for path in (tmp_path / "charts").iterdir()) == names
    assert out.startswith("encoder,")
    assert ssl_wb([*words, "--evaluator", "knn", "--no-baselines", "--chart", str(tmp_path / "none")]) == 0
    assert "nothing to draw" in capsys.readouterr().err
    assert ssl_wb([*words, "--evaluator", "knn", "--chart", str(manifest)]) == 2
    assert "is a file" in capsys.readouterr().err
