"""The pages say what the evaluation found, in one file, on a phone, on paper."""

import html.parser
import json
import re
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest

from cryoready.core.volume import Volume
from cryoready.report.page import write_entry_page, write_summary_page
from cryoready.report.scores import BY_KEY, KEY_SCORES, SCORES, write_number

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
DEPOSITED = {
    **{score.key: 0.6 for score in SCORES},
    **{"d_fsc_model_05_masked": 4.0, "d_fsc_model_0143_masked": 3.5, "d99_unmasked": 3.3},
    **{"d_fsc_model_05_unmasked": 4.1, "d_fsc_model_0143_unmasked": 3.6},
    **{"fsc_0143_ratio": 0.875, "q_sigma": 0.6, "contour": 0.5},
}
ENHANCED = DEPOSITED | {
    "d_fsc_model_05_masked": 3.4,
    "cc_mask": 0.7,
    "q_mean": 0.5,
    "contour": 25.0,
}


# what an evaluation says of an entry of which little is known
NOTHING = {
    **{"title": None, "split": None, "resolution": None, "resolution_from": None},
    **{"contour_from": None, "expected_q": None, "half_maps": None, "support": None},
    **{"reference": None, "built_model": None, "suppressed": None, "model_fits": None},
    **{"left_out": {}, "warnings": [], "provenance": {}},
}


def evaluation(**changes):
    return NOTHING | {
        **{"id": "EMD-1234", "title": "A map", "resolution": 3.3, "resolution_from": "sheet"},
        "contour": 0.5,
        **{"weights": "starter", "shape": [40, 44, 48], "voxel_size": [1.3, 1.3, 1.3]},
        **{"expected_q": 0.45, "deposited": DEPOSITED, "enhanced": ENHANCED, "split": "test"},
        "support": [
            {
                **{"predictor": "b_iso", "outcome": "gain", "n": 90, "reason": ""},
                **{"rho": -0.4, "low": -0.5, "high": -0.3, "p": 0.001},
            }
        ],
        "suppressed": {
            **{"share": 0.083, "share_of_volume": 0.11, "share_of_model": 0.05, "blob_count": 3},
            "blobs": [
                {
                    **{"centre_xyz": [1.0, 2.0, 3.0], "volume": 80.0, "peak": 0.9, "share": 0.02},
                    **{"nearest": "A/HIS 87", "distance": 2.4, "residues": 4},
                    "small_molecules": ["A/HEM 201"],
                }
            ],
            "small_molecules": [
                {
                    **{"residue": "A/HEM 201", "kind": "ligand", "atoms": 43},
                    **{"kept": 0.3, "suppressed": 0.6, "not_seen": 0.1},
                }
            ],
        },
        "left_out": {"locscale": "no locscale_map in the sheet"},
        "warnings": ["It agrees beyond the data."],
        "provenance": {
            "version": "0.1.0",
            "inputs": {"map": {"file": "maps/x.mrc", "sha256": "ab" * 32}},
            "settings": {"q": {"sigma": 0.6}},
        },
        **changes,
    }


def curves(dip=False):
    frequency = np.linspace(0.02, 0.6, 60)
    fsc = 1 - 2 * frequency
    after = np.where((frequency < 0.06) & dip, 0.4, 1 - 1.7 * frequency)
    tables = [
        pd.DataFrame({"map": name, "mask": mask, "frequency": frequency, "fsc": values})
        for name, values in (("deposited", fsc), ("enhanced", after))
        for mask in ("masked", "unmasked")
    ]
    return pd.concat(tables, ignore_index=True)


def residues(chains=("A", "B", "C"), n=30):
    random = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "chain": np.repeat(chains, n),
            "residue_number": np.tile(np.arange(n) + 1, len(chains)),
            "residue_name": "ALA",
            "polymer": "protein",
            "b_iso": random.uniform(10, 90, n * len(chains)),
        }
    )
    for column in ("q", "local_cc"):
        table[f"{column}_deposited"] = random.uniform(0.3, 0.7, len(table))
        table[f"{column}_enhanced"] = table[f"{column}_deposited"] + 0.1
    table.loc[table["chain"] == chains[-1], "q_enhanced"] -= 0.3
    return table


def by_chain(table):
    chains = table.groupby("chain", sort=False)[["q_deposited", "q_enhanced"]].mean()
    return chains.reset_index().assign(n_atoms=100)


def maps():
    data = np.random.default_rng(0).normal(0, 0.1, (40, 44, 48)).astype(np.float32)
    data[12:28, 14:30, 16:32] += 1
    return tuple(Volume(scale * data, 1.3, 0) for scale in (1, 50))


def bare(path, **changes):
    """Write a page without a model; return its text."""
    minimum = {"id": "mine", "weights": "starter", "shape": [40, 44, 48], "voxel_size": [1.3] * 3}
    minimum["contour"] = 0.5
    tables = {"curves": curves()[:0], "residues": pd.DataFrame(), "chains": pd.DataFrame()}
    write_entry_page(path, NOTHING | minimum | changes, maps=maps(), **tables)
    return path.read_text()


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The page of the usual evaluation."""
    return entry(tmp_path_factory.mktemp("page") / "x.html")


def entry(path, *, table=None, fsc=None, **changes):
    """Write a page; return its text."""
    table = residues() if table is None else table
    tables = {"curves": curves() if fsc is None else fsc, "residues": table}
    write_entry_page(path, evaluation(**changes), chains=by_chain(table), maps=maps(), **tables)
    return path.read_text()


class Links(html.parser.HTMLParser):
    """Every address that a page mentions."""

    def __init__(self, page):
        super().__init__()
        self.found = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found += [value for name, value in attrs if name.split(":")[-1] in ("src", "href")]


def words(page):
    """Text without tags."""
    body = re.sub(r"<(style|svg|script).*?</\1>", " ", page, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", body).split())


def card(page, key):
    found = re.findall(r'<div class="card.*?\n</div>', page, flags=re.DOTALL)
    return next(words(text) for text in found if KEY_SCORES[key] in text)


def test_the_top_tells_what_became_better_and_worse(page):
    assert "Mixed: better in 2 of 4 key scores, worse in 1" in page
    assert "4.00 → 3.40 Å ▲ better (lower is better)" in card(page, "d_fsc_model_05_masked")
    assert "0.600 → 0.600 = unchanged" in card(page, "fsc_inside_resolution")
    assert "0.600 → 0.700 ▲ better" in card(page, "cc_mask")
    assert "0.600 → 0.500 ▼ worse" in card(page, "q_mean")
    order = [page.index(x) for x in ("Mixed:", 'class="cards"', "beyond the data.</li>", "<img")]
    assert order == sorted(order)


def test_the_top_tells_where(page):
    text = words(page)
    assert "Q rose by more than 0.02 in 60 of 90 residues and fell in 30 ." in text
    assert re.search(r"By change of Q, chain [AB] \(0\.\d\d → 0\.\d\d\) does best and C", text)


@pytest.mark.parametrize(
    ("changes", "headline", "tone"),
    [
        ({}, "Unchanged in all of 4 key scores", "none"),
        ({"q_mean": 0.7}, "Better in 1 of 4 key scores, worse in none", "better"),
        ({"cc_mask": 0.5}, "Worse in 1 of 4 key scores, better in none", "worse"),
        ({"cc_mask": 0.5, "q_mean": None}, "Worse in 1 of 3 key scores, better in none", "worse"),
        (dict.fromkeys(KEY_SCORES), "Not judged: no key score could be computed", "none"),
    ],
)
def test_the_headline_follows_from_the_scores(tmp_path, changes, headline, tone):
    page = bare(tmp_path / "x.html", deposited=DEPOSITED, enhanced=DEPOSITED | changes)
    assert f'<p class="verdict {tone}">{headline}</p>' in page


def test_agreement_beyond_the_data_does_not_count(tmp_path):
    """Reported at 4 Å: 4.2 -> 3.1 is a gain of 0.2 Å, 3.9 -> 3.1 is none."""
    for before, judgement in ((4.2, "▲ better"), (3.9, "= unchanged")):
        scores = DEPOSITED | {"d_fsc_model_05_masked": before}
        after = scores | {"d_fsc_model_05_masked": 3.1}
        page = entry(tmp_path / "x.html", deposited=scores, enhanced=after, resolution=4.0)
        assert judgement in card(page, "d_fsc_model_05_masked")
        assert "beyond the data and does not count" in card(page, "d_fsc_model_05_masked")


@pytest.mark.parametrize(
    ("key", "before", "after", "judgement"),
    [
        ("d_fsc_model_05_masked", 3.2, 3.185, "unchanged"),  # 0.02 Å is the noise of programs
        ("d_fsc_model_05_masked", 3.2, 3.17, "better"),
        ("d_fsc_model_05_masked", 20.0, 19.95, "unchanged"),  # 0.5 % beyond 8 Å
        ("d_fsc_model_05_masked", 20.0, 20.2, "worse"),
        ("cc_mask", 0.8, 0.804, "unchanged"),
        ("cc_mask", 0.8, 0.79, "worse"),
        ("q_mean", None, 0.5, ""),
        ("d_fsc_model_0143_masked", 3.2, 1.8, ""),  # beyond the data: a prior, no merit
    ],
)
def test_a_difference_counts_when_it_is_larger_than_the_noise(key, before, after, judgement):
    assert BY_KEY[key].judge(before, after) == judgement


def test_a_dip_is_told_from_a_loss_of_resolution(page, tmp_path):
    after = ENHANCED | {"d_fsc_model_05_masked": 25.0}
    last = 1 / curves()[lambda c: (c["map"] == "enhanced") & (c["fsc"] >= 0.5)]["frequency"].max()
    assert f"below 0.5 for good at {last:.2f} Å" in card(
        entry(tmp_path / "x.html", enhanced=after, fsc=curves(dip=True)), "d_fsc_model_05_masked"
    )
    assert "for good" not in page


def test_numbers_that_could_not_be_computed_are_dashes():
    assert write_number(None) == write_number(float("nan")) == "–"
    assert write_number(-0.126, 2, sign=True) == "−0.13"
    assert write_number(0.126, 2, sign=True) == "+0.13"


def test_everything_has_its_place(tmp_path):
    halves = {"d_fsc_0143_masked": 3.9, "d_fsc_0143_unmasked": 4.4, "local_resolution": None}
    halves |= {
        "mask": "contour",
        "enhanced_d_fsc_0143_masked": 2.2,
        "enhanced_note": "shares a prior",
    }
    reference = {"map": "EMD-9.map", "model": None, "rmsd": 0.8, "n_matched": 99}
    reference |= {"correlation": 0.7, "deposited": {"cc_mask": 0.41}, "enhanced": {"cc_mask": 0.43}}
    halves_curves = curves().replace({"deposited": "half_maps", "enhanced": "enhanced_half_maps"})
    page = entry(
        tmp_path / "x.html",
        fsc=pd.concat([curves(), halves_curves]),
        auto_sharpened=DEPOSITED | {"cc_box": 0.123},
        half_maps=halves,
        reference=reference,
        built_model={"program": "ModelAngelo", "enhanced": {"CA within 3 Å": 0.81}},
    )
    text = words(page)
    for part in (
        *("not for refinement", "no claim of resolution", "σ 0.6 Å", "3.30 Å (sheet)"),
        *("0.123", "auto-sharpened", "locscale (no locscale_map in the sheet)", "starter"),
        *("enhanced halves, FSC 0.143, masked 2.20 Å shares a prior", "CC mask 0.410 0.430 +0.020"),
        *("99 residues superposed with 0.80 Å", "enhanced.CA within 3 Å 0.81", "q.sigma 0.6"),
        *("8.3 % (11 % of its volume)", "A/HEM 201 ligand 43 30 % ✗ 60 % 10 %", "ab" * 32),
        *("test: not used for training or selection", "contour 0.5 before"),
    ):
        assert part in text
    assert page.count('<svg role="img"') == 3 + 3 + 1 + 3 + 1  # strips, FSC, Q, chains, B-factor


def test_without_a_model_one_sentence_stands_for_the_scores(tmp_path):
    nothing = dict.fromkeys(DEPOSITED) | {"contour": 0.5}
    page = bare(tmp_path / "x.html", deposited=nothing, enhanced=nothing)
    assert "There is no model" in page
    assert "no resolution given" in page
    assert page.count("data:image/png") == 6
    assert "<svg" not in page
    assert not re.search("Q-score|CC mask|class=.card", words(page).split("Before is the")[0])


def test_untrusted_text_stays_text(tmp_path):
    attack = "<script>alert(1)</script>"
    table = residues(chains=("A", attack)).assign(residue_name="<i>")
    page = entry(tmp_path / "x.html", title=attack, warnings=[attack], weights=attack, table=table)
    assert "<script" not in page
    assert "<i>" not in page
    assert page.count("&lt;script&gt;alert(1)") >= 5
    write_summary_page(tmp_path / "y.html", [evaluation(id="a&b<script>")])
    assert "<script" not in (tmp_path / "y.html").read_text()


def test_the_pages_need_no_other_file(page, tmp_path):
    write_summary_page(tmp_path / "y.html", [evaluation()])
    for content in (page, (tmp_path / "y.html").read_text()):
        for link in Links(content).found:
            assert re.match(r"data:|#|https://doi\.org/|EMD-1234_evaluation\.html$", link)
        assert not re.search(r"@import|url\((?!#)", content)


def test_the_same_evaluation_gives_the_same_page(page, tmp_path):
    assert entry(tmp_path / "x.html") == page


def test_a_large_complex_stays_a_small_page(tmp_path):
    table = residues(chains=[f"C{k}" for k in range(40)], n=500)
    page = entry(tmp_path / "x.html", table=table)
    assert (tmp_path / "x.html").stat().st_size < 4e6
    assert "Drawn are 12 of 40 chains" in words(page)
    assert "the other 34 chains" in page


def test_the_summary_counts_only_what_is_evidence(tmp_path):
    """Two entries count; those for training (a gain of 0.9) and selection do not."""
    gains = {"a": (0.05, "test"), "b": (0.02, None), "c": (0.9, "train"), "d": (-0.5, "val")}
    entries = [
        evaluation(
            id=name,
            split=split,
            enhanced=DEPOSITED | {"q_mean": 0.6 + gain},
            auto_sharpened={"q_mean": 0.55} if name == "a" else None,
        )
        for name, (gain, split) in gains.items()
    ]
    write_summary_page(tmp_path / "x.html", entries[::-1])
    page = (tmp_path / "x.html").read_text()
    text = words(page)
    assert "Better in 1 of 4 key scores, worse in none" in text
    assert "0.600 → 0.635 ▲ better (higher is better) median; better in 2 of 2" in card(
        page, "q_mean"
    )
    assert "auto-sharpened – → – better in 0 of 0" in text
    assert "0.600 → 0.550 better in 0 of 1" in text
    places = [page.index(f'href="{name}_evaluation.html"') for name in "dc"]
    assert max(page.index(f'href="{name}_evaluation.html"') for name in "ab") < places[0]
    assert places[0] < page.index("used for training: not evidence") < places[1]
    assert page.index("used for selection") < places[0]
    write_summary_page(tmp_path / "y.html", entries[2:])
    assert "No evidence: every entry was used" in (tmp_path / "y.html").read_text()


# --- in a browser ---

PROBE = """<script>addEventListener("load", () => parent.postMessage({
  width: document.documentElement.scrollWidth,
  asked: performance.getEntriesByType("resource").map(r => r.name)
    .filter(name => !name.startsWith("data:")),
  broken: [...document.images].filter(i => !i.naturalWidth).length,
  images: document.images.length,
  figures: [...document.querySelectorAll("figure svg")].map(s => s.getBoundingClientRect().width),
  text: Math.min(...[...document.querySelectorAll("figure svg text")].map(
    t => parseFloat(getComputedStyle(t).fontSize) * Math.hypot(t.getCTM().a, t.getCTM().b))),
}, "*"))</script></body>"""
FRAME = """<body style="margin:0">
<iframe src="page.html" style="border:0;width:{width}px;height:900px"></iframe>
<pre id="found"></pre><script>addEventListener("message", e => {{
document.getElementById("found").textContent = JSON.stringify(e.data)}})</script></body>"""


def chromium(folder, *arguments):
    if CHROMIUM is None:
        pytest.skip("needs chromium (make system-packages)")
    command = [CHROMIUM, "--no-sandbox", "--headless=new", "--disable-gpu", "--hide-scrollbars"]
    command += [f"--user-data-dir={folder / 'profile'}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


def look(page, folder, width):
    """What a browser finds in a window of this width."""
    (folder / "page.html").write_text(page.replace("</body>", PROBE))
    (folder / "frame.html").write_text(FRAME.format(width=width))
    address = f"file://{folder / 'frame.html'}"
    dom = chromium(folder, "--virtual-time-budget=5000", "--dump-dom", address)
    return json.loads(html.unescape(re.search(r'<pre id="found">(.*?)</pre>', dom)[1]))


@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_shows_all_of_it_at_any_width(tmp_path, width):
    long = "EMD-" + "9" * 60
    provenance = {
        "version": "1",
        "inputs": {"map": {"file": "maps/" + "x" * 90, "sha256": "a" * 64}},
    }
    page = entry(tmp_path / "x.html", id=long, auto_sharpened=DEPOSITED, provenance=provenance)
    found = look(page, tmp_path, width)
    assert found["width"] <= width
    assert found["asked"] == []
    assert (found["images"], found["broken"]) == (6, 0)
    assert len(found["figures"]) == 7
    assert min(found["figures"]) > 300  # pixels
    assert found["text"] > 9  # pixels


@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_shows_the_summary_at_any_width(tmp_path, width):
    entries = [evaluation(id=f"EMD-{k}" + "x" * (k % 3) * 25) for k in range(1000, 1012)]
    write_summary_page(tmp_path / "x.html", entries)
    found = look((tmp_path / "x.html").read_text(), tmp_path, width)
    assert found["width"] <= width
    assert found["asked"] == []
    assert found["text"] > 9


def test_the_page_is_printed_on_a_few_sheets(page, tmp_path):
    (tmp_path / "x.html").write_text(page)
    target = tmp_path / "x.pdf"
    chromium(tmp_path, f"--print-to-pdf={target}", f"file://{tmp_path / 'x.html'}")
    pages = re.findall(rb"/Type\s*/Page\b", target.read_bytes())
    assert 2 <= len(pages) <= 6
