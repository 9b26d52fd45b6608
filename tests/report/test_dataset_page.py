"""The page of the data set names every entry with its reason, and finds its pictures."""

import html.parser
import re

import pandas as pd
import pytest

from cryoready.report.dataset_page import write_dataset_page

COUNTS = {"train": 2, "val": 1, "test": 1}
FILTERS = pd.DataFrame(
    [("method", 20_000, 3005), ("box", 3000, 5), ("files", 1, 4), ("cc_mask", 1, 3)],
    columns=["filter", "rejected", "left"],
)
VOID = {"meta", "link", "img", "br", "hr", "input"}
#: Elements that HTML lets a page leave open.
OPEN = {"th", "td", "tr", "p", "li", "thead", "tbody"}


class Page(html.parser.HTMLParser):
    """Rows of the table, links, pictures; ``unclosed`` and ``unopened`` elements."""

    def __init__(self, text):
        super().__init__()
        self.rows, self.links, self.sources, self.open, self.unopened = [], [], [], [], []
        self.feed(text)
        self.close()
        self.unclosed = [tag for tag in self.open if tag not in OPEN]

    def handle_starttag(self, tag, attributes):
        known = dict(attributes)
        if tag == "tr":
            self.rows.append([])
        if tag in ("th", "td") and self.rows:
            self.rows[-1].append("")
        self.links += [known["href"]] if tag == "a" else []
        self.sources += [known["src"]] if "src" in known else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        while self.open and self.open[-1] != tag and self.open[-1] in OPEN:
            self.open.pop()
        if self.open and self.open[-1] == tag:
            self.open.pop()
        elif tag not in OPEN:
            self.unopened.append(tag)

    def handle_data(self, data):
        if "table" in self.open and self.rows and self.rows[-1]:
            self.rows[-1][-1] += data.strip() and data


def entry(number, split, reason=""):
    return {
        **{"id": f"EMD-{number}", "pdb": "1abc", "resolution": "3.50", "split": split},
        **{"contour": "", "emdb": f"EMD-{number}", "rejected_because": reason},
    }


def pair(number, **changes):
    known = {
        **{"id": f"EMD-{number}", "boxes": 12, "assembly": "deposited", "correlation": 0.7},
        **{"failed": None, "overlap": 0.98, "cc_mask": 0.71, "cc_mask_1A": 0.7, "shift": 0.12},
        **{"residues": 350, "copies": 2},
    }
    return known | changes


FAILED = "files: no such entry: <b>404</b> & 'x' in \"y\""
ENTRIES = [
    entry(1001, "", "cc_mask: 0.41, less than 0.65"),
    entry(1002, "test"),
    entry(1003, "train"),
    entry(1004, "", FAILED),
    entry(1005, "train"),
]
NOTHING = dict.fromkeys(pair(0).keys() - {"id", "boxes", "failed"})
PAIRS = [
    pair(1001, cc_mask=0.41),
    pair(1002),
    pair(1003),
    pair(1004, **NOTHING, boxes=0, failed=FAILED),
    pair(1005),
]


@pytest.fixture
def write(tmp_path):
    """The page of a data set, in ``results/dataset``; pictures are in ``results/work``."""

    def write_page(entries=ENTRIES, pairs=PAIRS, filters=FILTERS, counts=COUNTS):
        write_page.path = tmp_path / "results" / "dataset" / "dataset.html"
        write_page.path.parent.mkdir(parents=True, exist_ok=True)
        pictures = {
            row["id"]: tmp_path / "results" / "work" / row["id"] / "pair.png" for row in pairs
        }
        write_dataset_page(
            write_page.path,
            pd.DataFrame(entries, columns=list(entry(0, ""))),
            pd.DataFrame(pairs, columns=list(pair(0))),
            filters,
            counts=counts,
            pictures=pictures,
        )
        return write_page.path.read_text(encoding="utf-8")

    return write_page


def test_the_page_is_whole(write):
    page = Page(write())
    assert page.unopened == []
    assert page.unclosed == []
    assert [path.name for path in write.path.parent.iterdir()] == ["dataset.html"]


def test_every_pair_is_named_with_what_was_measured_and_its_reason(write):
    heading, *rows = Page(write()).rows
    assert len(heading) == 10
    found = {row[0][:8]: row for row in rows if row[0].startswith("EMD-")}
    assert list(found) == [f"EMD-{number}" for number in (1003, 1005, 1002, 1001, 1004)]
    assert found["EMD-1001"][2:] == [
        *("12", "0.41", "0.70", "0.12", "0.98", "350", "2", "cc_mask: 0.41, less than 0.65"),
    ]
    assert found["EMD-1003"][-1] == ""
    assert found["EMD-1004"][2:] == ["0", *["–"] * 6, FAILED]
    assert "1abc, 3.50 Å" in found["EMD-1002"][0]


def test_pairs_stand_below_their_split(write):
    named = [row[0][:8] for row in Page(write()).rows[1:]]
    assert named == [
        *("train", "EMD-1003", "EMD-1005", "test", "EMD-1002"),
        *("left out", "EMD-1001", "EMD-1004"),
    ]


def test_pictures_are_found_from_the_page(write):
    """Also after the whole folder was moved; an entry without a pair has none."""
    page = Page(write())
    assert page.sources == page.links
    assert page.sources == [f"../work/EMD-{number}/pair.png" for number in (1003, 1005, 1002, 1001)]


def test_the_page_says_what_is_missing(write):
    text = write()
    assert "Fewer pairs than wanted: 0 of 1 val" in text
    for words in ("train: 2", "val: 0", "test: 1", "left out: 2"):
        assert words in text
    assert "2 of 2 train" not in text


def test_nothing_is_missing_where_there_is_enough(write):
    assert "Fewer pairs" not in write(counts={"train": 2, "test": 1})


def test_the_bars_have_the_numbers_of_every_filter(write):
    text = re.sub(r"<[^>]+>", " ", write())
    for row in FILTERS.itertuples():
        assert row.filter in text
        assert f"{row.left:,} (\N{MINUS SIGN}{row.rejected:,})" in text


def test_an_older_page_is_replaced(write):
    write()
    assert "EMD-1001" not in write(ENTRIES[1:3], PAIRS[1:3])


@pytest.mark.parametrize(
    ("entries", "pairs"),
    [([], []), ([ENTRIES[3]], [PAIRS[3]])],
    ids=["no candidates", "nothing but failures"],
)
def test_a_data_set_of_nothing_has_a_page(write, entries, pairs):
    filters = FILTERS.assign(left=0, rejected=0)
    page = write(entries, pairs, filters)
    assert "Fewer pairs than wanted: 0 of 2 train; 0 of 1 val; 0 of 1 test" in page
    assert Page(page).sources == []
