"""The page of the training runs says what they left behind, in one file, on a phone."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from test_page import Links, look, words

from cryoready.report.training import numbers, shares, write_training_report
from cryoready.report.training_plots import line_styles, plot_course, plot_validation
from cryoready.training.ablation import ablation_table
from cryoready.training.record import HISTORY, SCORES, Record
from cryoready.training.samples import Slices

IDS = ("EMD-5830", "EMD-5137", "EMD-2513")
EPOCHS = 30


def made_up(name, *, speed=0.1, gain=0.05, every=5, ids=IDS, seed=0):
    """A run whose losses fall by ``speed`` an epoch and whose maps gain ``gain`` at the end."""
    rng = np.random.default_rng(seed)
    epoch = np.arange(EPOCHS) + 1
    share = 1 - np.exp(-speed * epoch)
    score = np.where(epoch % every == 0, 3 * gain * share, np.nan) if every else np.nan
    history = pd.DataFrame({"epoch": epoch, "score": score})
    history["train_loss"] = 0.5 - 0.3 * share + rng.normal(0, 0.005, EPOCHS)
    history["validation_loss"] = 0.55 - 0.25 * share + rng.normal(0, 0.01, EPOCHS)
    history["learning_rate"] = 1e-5 + 5e-4 * (1 + np.cos(np.pi * epoch / EPOCHS)) / 2
    history = history.assign(samples=600, seconds=200 + 20 * rng.random(EPOCHS))
    validated = [0, *epoch[epoch % every == 0]] if every else []
    rows = [
        {
            **{"epoch": e, "id": entry},
            **dict.fromkeys(SCORES, 0.5 + 0.1 * k + gain * (e > 0) * share[e - 1]),
            "d_fsc_model_05_masked": 4.2 + 0.3 * k - 8 * gain * (e > 0) * share[e - 1],
        }
        for e in validated
        for k, entry in enumerate(ids)
    ]
    validation = pd.DataFrame(rows, columns=["epoch", "id", *SCORES])
    return Record(name, history[list(HISTORY)], validation, {"name": name})


def crops(names, ids=IDS):
    rng = np.random.default_rng(1)
    density = rng.random((len(ids), 3, 48, 48)).astype(np.float32)
    return {name: Slices(list(ids), density * (0.5 + 0.1 * k)) for k, name in enumerate(names)}


def variants():
    """Two seeds each of a base, of a better and of an equal variant."""
    gains = {"scunet": (0.05, 0.051), "skip": (0.08, 0.081), "frn": (0.0505, 0.0495)}
    return [
        (name, made_up(f"ablation-{name}-{k}", gain=gain, seed=k), 1_200_000)
        for name, values in gains.items()
        for k, gain in enumerate(values)
    ]


def write(path, runs, **changes):
    """Write a page; return its text."""
    given = {"samples": {}, "ablation": None, "resolutions": {}} | changes
    write_training_report(path, runs, **given)
    return path.read_text()


def full(path):
    """A page with everything."""
    ablation = variants()
    runs = [
        made_up("default"),
        made_up("wide", speed=0.05, gain=0.08),
        *(r for _, r, _ in ablation),
    ]
    return write(
        path,
        runs,
        samples=crops(["default", "wide", "ablation-scunet-1"]),
        ablation=ablation_table(ablation, base="scunet"),
        resolutions=dict(zip(IDS, (3.8, 4.3, None), strict=True)),
    )


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return full(tmp_path_factory.mktemp("page") / "x.html")


def test_each_run_is_a_row_with_its_best_epoch(page):
    """The scores rise to the end: of the last epoch is 0.05 · (1 - e⁻³) = 0.048."""
    text = words(page)
    assert "2 runs 6 of the ablation" in text
    assert re.search(r"default 30 18000 10\d 2\.\d\d 30 0\.\d{4} \+0\.1425 \+0\.048 × 0\.92", text)
    assert text.index("wide 30") < text.index("runs of the ablation ablation-scunet-0 30")


def test_each_map_is_compared_with_the_deposited_one(page):
    text = words(page).split("default: epoch 30")[1]
    assert "EMD-5830 3.80 Å 0.500 → 0.548 ▲ better 4.20 → 3.82 ▲ better" in text
    assert "+0.048 better in 3 of 3 × 0.92 better in 3 of 3" in text


def test_agreement_beyond_the_data_is_not_better():
    """From 4.2 to 3.82 Å is no gain in a map of 4.5 Å."""
    run = made_up("x", ids=IDS[:1])
    assert shares(run, {IDS[0]: 4.5})["d_fsc_model_05_masked"] == (0, 0, 1)
    assert shares(run, {IDS[0]: None})["d_fsc_model_05_masked"] == (1, 0, 1)
    worse = made_up("x", gain=-0.05, ids=IDS[:1])
    worse.history["score"] = np.where(worse.history["epoch"] == 30, 1.0, np.nan)
    assert shares(worse, {})["q_mean"] == (0, 1, 1)


def test_the_ablation_says_what_is_more_than_chance(page):
    text = words(page[page.index('id="ablation"') :])
    assert re.search(r"skip 1\.20 M 2 18000 \d+\.\d 0\.22\d\d ± 0\.\d{4} \+0\.0\d+ yes", text)
    assert re.search(r"frn 1\.20 M 2 18000 .*? no", text)
    assert text.index("skip 1.20 M") < min(text.index(f"{x} 1.20 M") for x in ("scunet", "frn"))


def test_samples_stand_side_by_side(page):
    names = re.findall(r'alt="EMD-5830, ([^"]+)"', page)
    assert names == ["input", "default", "wide", "ablation-scunet-1", "target"]
    assert page.count("data:image/png") == 5 * len(IDS)


def test_lines_are_those_of_the_tables():
    """Each panel has the deposited value as a level line, and rings at the best epoch."""
    runs = [made_up("a"), made_up("b", gain=0.1)]
    styles = line_styles(["a", "b"])
    figure = plot_validation(runs, "q_mean", "Q", styles)
    panel = figure.axes[1]
    levels = [line for line in panel.lines if len(set(line.get_ydata())) == 1]
    assert levels[0].get_ydata()[0] == pytest.approx(0.6)
    ends = [line.get_ydata()[-1] for line in panel.lines if len(line.get_xdata()) == 6]
    assert ends == pytest.approx([0.6 + g * (1 - np.exp(-3)) for g in (0.05, 0.1)])
    course = plot_course(runs, "score", styles).axes[0]
    assert [len(line.get_xdata()) for line in course.lines] == [6, 1, 6, 1]


def test_runs_differ_without_colour():
    names = [f"run{k}" for k in range(12)]
    styles = line_styles([*names, "ablation-x-1"])
    drawn = {(style["color"], style["ls"]) for style in styles.values()}
    assert len(drawn) == 13


def test_runs_without_scores_are_compared_by_their_losses(tmp_path):
    page = write(tmp_path / "x.html", [made_up("old", every=0)])
    text = words(page)
    assert "The maps were not validated at this epoch" in text
    assert 'id="validation"' not in page
    assert 'id="samples"' not in page
    assert 'id="ablation"' not in page
    assert json.loads((tmp_path / "x.json").read_text())[0]["score"] is None


def test_the_numbers_are_left_beside_the_page():
    found = numbers([made_up("a")])[0]
    assert found["run"] == "a"
    assert found["q_mean_gain"] == pytest.approx(0.05 * (1 - np.exp(-3)))
    assert [row["id"] for row in found["entries"]] == sorted(IDS, key=IDS.index)


def test_untrusted_text_stays_text_and_nothing_is_loaded(page, tmp_path):
    bad = write(tmp_path / "x.html", [made_up("a", ids=("<script>alert(1)</script>", "$x$"))])
    assert "<script" not in bad
    for link in Links(page).found:
        assert re.match(r"data:|#|https://doi\.org/", link)


def test_the_same_runs_give_the_same_page(tmp_path):
    pages = [
        write(tmp_path / name, [made_up("a", ids=IDS[:1])], samples=crops(["a"]))
        for name in ("x.html", "y.html")
    ]
    assert pages[0] == pages[1]


@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_shows_all_of_it_at_any_width(page, tmp_path, width):
    found = look(page, tmp_path, width)
    assert found["width"] <= width
    assert found["asked"] == []
    assert (found["images"], found["broken"]) == (15, 0)
    assert len(found["figures"]) == 5 + len(SCORES)
    assert min(found["figures"]) > 300  # pixels
    assert found["text"] > 9  # pixels
