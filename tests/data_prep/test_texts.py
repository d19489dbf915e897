"""Text for language models: from miniature archives and dumps to sentences, each once."""

import bz2
import csv
import dataclasses
import gzip
import io
import json
import zipfile

import pytest

from asr.data.manifest import write_manifest
from asr.types import Utterance
from data_prep import cli, wikitext
from data_prep.line_filter import Excluded, Seen, compared
from data_prep.sentences import is_running, sentences
from data_prep.texts import PACKAGES, Dump, TextError, write_texts
from data_prep.wikitext import plain_paragraphs, read_dump, read_wikitext, read_wordnet
from tests.data_prep.archives import tar

ELBE = "The river Elbe flows to the north-west and into the sea."
ODER = "The river Oder has many canals along its lower course."
RHINE = "The river Rhine begins in the mountains of Switzerland."
GAMBIA = "The country lies along both banks of a river."


def page(title: str, text: str, namespace: int | None = 0) -> str:
    tag = "" if namespace is None else f"<ns>{namespace}</ns>\n"
    return (
        f"<page>\n<title>{title}</title>\n{tag}<revision>\n"
        f'<text xml:space="preserve">{text}</text>\n</revision>\n</page>\n'
    )


def dump(*pages: str) -> bytes:
    return ("<mediawiki>\n" + "".join(pages) + "</mediawiki>\n").encode()


def wheel(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def table(*texts: str) -> bytes:
    buffer = io.StringIO()
    csv.writer(buffer).writerows([["SECTION_TEXT", "TITLE"], *([text, "x"] for text in texts)])
    return buffer.getvalue().encode()


TOKENS = (
    'Antimony is n\'t soft , but brittle ( as arsenic ) , and costs $ 5 . " Is it rare ? " he asked'
)
SAMPLE = "enwiki-latest-pages-articles1.xml-p1p9-shortened.bz2"
PROFILE = {
    "Geography": {"text": f"<b>{GAMBIA}</b>"},
    "People": {"major-language sample(s)": {"text": "Le grand livre des faits du monde."}},
}
CONTENTS = {
    "enwiki-sample": tar(
        {
            f"gensim/test_data/{SAMPLE}": bz2.compress(dump(page("Elbe", ELBE))),
            "gensim/README": b"Nothing of this is wanted in here at all.",
        }
    ),
    "pyate": tar({"p/src/pyate/default_general_domain.en.csv": table(f"{ODER} {ELBE}", "")}),
    "wikitext-2": wheel(
        {"n/data/wikitext-2/train.raw.gz": gzip.compress(f" = Sb = \n {TOKENS} . \n".encode())}
    ),
    # Cut off in the middle of an article, as the real one is.
    "enwik8": tar(
        {"m/data/enwik8.gz": gzip.compress(dump(page("Rhine", RHINE, None), page("X", ODER))[:-90])}
    ),
    "factbook": tar({"c/data/africa/ga.json": json.dumps(PROFILE).encode()}),
    "wordnet": tar(
        {
            "package/dict/data.noun": b"  1 This is the licence of the software.\n"
            b'00001 03 n 01 bank 0 000 | sloping land beside a river; "they sat on the bank"  \n'
        }
    ),
}
EXPECTED = {
    "enwiki-sample": [ELBE],
    "pyate": [ODER],
    "wikitext-2": ["Antimony isn't soft, but brittle, and costs $5.", '"Is it rare?" he asked.'],
    "enwik8": [RHINE],
    "factbook": [GAMBIA],
    "wordnet": ["They sat on the bank.", "Sloping land beside a river."],
}


@pytest.fixture
def packages(server, monkeypatch):
    """The real table of sources, with miniature archives on the local server."""
    small = tuple(
        dataclasses.replace(
            package, archive=server.offer(package.archive.name, CONTENTS[package.name])
        )
        for package in PACKAGES
    )
    monkeypatch.setattr(cli, "PACKAGES", small)
    return {package.name: package for package in small}


def lines(path):
    return path.read_text(encoding="utf-8").splitlines()


def manifest(path, *texts):
    write_manifest(path, [Utterance("a.wav", 1.0, text, None, {}) for text in texts])
    return path


# --- the command


def test_every_source_gives_its_sentences_and_leaves_no_archive(run, packages, tmp_path):
    code, out, err = run("text", "--to", tmp_path)
    assert code == 0, err
    assert {path.stem: lines(path) for path in tmp_path.glob("*.txt")} == EXPECTED
    assert {path.suffix for path in tmp_path.iterdir()} == {".txt", ".json"}
    about = json.loads((tmp_path / "wordnet.json").read_text())
    assert about["licence"] == "WordNet"
    assert about["checksum"] == packages["wordnet"].archive.checksum
    row = next(line for line in out.splitlines() if "pyate.txt" in line)
    assert row.split()[-4:] == ["1", "10", "1", "0"]  # lines, words, duplicates, left out
    assert "CC BY-SA" in row


def test_what_is_there_is_not_made_again(run, server, packages, tmp_path):
    run("text", "--to", tmp_path, "--only", "pyate")
    assert lines(tmp_path / "pyate.txt") == [ODER, ELBE]
    n_requests = len(server.requests)
    code, out, _ = run("text", "--to", tmp_path, "--only", "pyate", "--only", "enwiki-sample")
    assert code == 0
    assert len(server.requests) == n_requests + 1
    assert lines(tmp_path / "enwiki-sample.txt") == []  # pyate has its only line already
    assert next(r for r in out.splitlines() if "pyate" in r).split()[-4:] == ["2", "21", "0", "0"]


def test_what_a_dev_set_says_is_left_out_of_old_and_new_texts(run, packages, tmp_path):
    run("text", "--to", tmp_path, "--only", "pyate")
    dev = manifest(tmp_path / "dev.jsonl", "many canals along its lower course", "on the bank")
    other = manifest(tmp_path / "other.jsonl", "oh the river rhine begins in the mountains of "
                     "switzerland and ends in the sea")  # fmt: skip
    code, out, _ = run("text", "--to", tmp_path, "--only", "pyate", "--only", "enwik8", "--only",
                       "wordnet", "--without", dev, "--without", other)  # fmt: skip
    assert code == 0
    assert lines(tmp_path / "pyate.txt") == [ELBE]  # the line held a text
    assert lines(tmp_path / "enwik8.txt") == []  # the line lay inside a text
    assert lines(tmp_path / "wordnet.txt") == EXPECTED["wordnet"]  # three words belong to nobody
    assert [row.split()[-1] for row in out.splitlines()[1:]] == ["1", "1", "0"]


def test_a_killed_run_goes_on_where_it_was(run, server, packages, tmp_path):
    content = CONTENTS["pyate"]
    (tmp_path / f"{packages['pyate'].archive.name}.part").write_bytes(content[:50])
    (tmp_path / packages["factbook"].archive.name).write_bytes(CONTENTS["factbook"])
    code, _, err = run("text", "--to", tmp_path, "--only", "pyate", "--only", "factbook")
    assert code == 0, err
    assert server.requests == [(f"/{packages['pyate'].archive.name}", "bytes=50-")]
    assert lines(tmp_path / "factbook.txt") == [GAMBIA]


def test_a_text_is_whole_or_not_there(packages, tmp_path):
    def breaks(file):
        yield ELBE
        raise KeyboardInterrupt

    package = dataclasses.replace(packages["pyate"], read=breaks)
    with pytest.raises(KeyboardInterrupt):
        list(write_texts([package], tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == [package.archive.name]
    assert [written.lines for written in write_texts([packages["pyate"]], tmp_path)] == [2]


def test_wrong_bytes_stop_one_text_and_not_the_others(run, server, packages, tmp_path):
    server.faults[f"/{packages['pyate'].archive.name}"].extend(["wrong", "wrong"])
    code, out, err = run("text", "--to", tmp_path, "--only", "pyate", "--only", "factbook")
    assert code == 1
    assert "sha256 is" in err
    assert "put the published archive at" in err
    assert "factbook.txt" in out
    assert not list(tmp_path.glob("pyate*"))


# --- dumps of one's own


@pytest.mark.parametrize(
    ("suffix", "pack"), [(".bz2", bz2.compress), (".gz", gzip.compress), ("", bytes)]
)
def test_a_dump_of_ones_own_in_another_language(run, packages, tmp_path, suffix, pack):
    text = (
        "[[Datei:E.jpg|mini|Die Elbe]]Die '''Elbe''' ist ein Fluss in Mitteleuropa. "
        "Äpfel wachsen an ihren Ufern."
    )
    path = tmp_path / f"dewiki.xml{suffix}"
    path.write_bytes(pack(dump(page("Elbe", text), page("Diskussion:Elbe", ODER, 1))))
    code, _, err = run("text", "--to", tmp_path / "out", "--dump", path)
    assert code == 0, err
    assert lines(tmp_path / "out" / "dewiki.txt") == [
        "Die Elbe ist ein Fluss in Mitteleuropa.",
        "Äpfel wachsen an ihren Ufern.",
    ]
    assert len(list((tmp_path / "out").glob("*.txt"))) == 1  # and none of the packages
    assert path.exists()


@pytest.mark.parametrize("pack", [bz2.compress, gzip.compress])
def test_a_damaged_dump_leaves_nothing(run, tmp_path, pack):
    path = tmp_path / "wiki.xml.packed"
    path.write_bytes(pack(dump(page("Elbe", ELBE)))[:-12])
    code, _, err = run("text", "--to", tmp_path / "out", "--dump", path)
    assert code == 1
    assert "damaged, or not there to its end" in err
    assert not list((tmp_path / "out").iterdir())


def test_what_is_no_dump_is_told(run, tmp_path):
    path = tmp_path / "notes.xml"
    path.write_text("The river Elbe flows to the north.")
    code, _, err = run("text", "--to", tmp_path / "out", "--dump", path)
    assert code == 1
    assert "no sentence found" in err
    assert not list((tmp_path / "out").iterdir())


def test_two_dumps_may_not_have_one_name(tmp_path):
    paths = [tmp_path / "a" / "wiki.xml.bz2", tmp_path / "b" / "wiki.xml.gz"]
    with pytest.raises(TextError, match=r"two texts would be called wiki\.txt"):
        list(write_texts([Dump(path) for path in paths], tmp_path))


def paragraphs(content: bytes) -> list[str]:
    return list(read_dump(io.BufferedReader(io.BytesIO(content))))


def test_pages_that_are_no_articles_are_passed_over():
    pages = [
        page("Talk:Elbe", ELBE, None),
        page("User talk:Ann", ELBE, None),
        page("Help", "#REDIRECT [[Elbe]] and then some more of this kind.", 0),
        '<title>Gone</title>\n<text bytes="0" />\n',
        page("Batman:Year One", RHINE, 0),
    ]
    assert paragraphs(dump(*pages)) == [RHINE]


def test_an_article_beyond_all_bounds_is_passed_over(monkeypatch):
    monkeypatch.setattr(wikitext, "MAX_ARTICLE", 1000)
    monkeypatch.setattr(wikitext, "MAX_LINE", 300)
    pages = [page("Long", 100 * ELBE), page("Lines", 100 * f"{ELBE}\n"), page("Rhine", RHINE)]
    assert paragraphs(dump(*pages)) == [RHINE]


@pytest.mark.parametrize("start", ["", "[http://", "[[ab:", "{{", "<!--", "("])
@pytest.mark.parametrize(
    "repeated", ["<ref><!--{{{|[[ab:[http://(", "\n", "[[x]]", "a", '."', " ="]
)
def test_markup_made_to_be_slow_is_not(start, repeated):
    hostile = start + repeated * 5000  # where a pattern is quadratic in it, this takes long
    for paragraph in plain_paragraphs(hostile):
        list(sentences(paragraph))


# --- markup, tokens, glosses


@pytest.mark.parametrize(
    "markup",
    [
        "The river Elbe {{lang|de|{{x}} y}}flows to the north-west and into the sea.",
        "The river Elbe<ref name=a /> flows<ref>{{cite|u=<b>}}\n* x</ref> to the north-west and "
        "into the sea.",
        "The <!-- [[big]] \n -->river Elbe flows to the north-west and into the sea.",
        "{| class=wide\n| The river has a table of great length here.\n{|\n|}\n|}\n" + ELBE,
        "[[Image:Elbe.jpg|thumb|The [[river]] Elbe near its source]]" + ELBE,
        "The river [[Elbe|Elbe]] flows [http://x.org/y to the north-west] and into the [[sea]].",
        "The ''river'' '''Elbe''' <small>flows</small> to the&nbsp;north-west and into the sea.",
        f"{ELBE}\n* A list whose items are sentences that nobody reads.\n== See also ==\n{ODER}",
        f"<ref>{ELBE}",  # never closed: the words stay
    ],
)
def test_markup_becomes_plain_text(markup):
    found = [line for text in plain_paragraphs(markup) for line in sentences(text)]
    assert found == [ELBE]


def test_tokens_are_put_together():
    line = (
        " The ship 's 1 @,@ 500 crew did n't row ; it was a well @-@ known \" ship \" "
        "( of sorts ) . \n"
    )
    [joined] = read_wikitext(io.BufferedReader(io.BytesIO(line.encode())))
    assert joined.strip() == (
        "The ship's 1,500 crew didn't row; it was a well-known \"ship\" (of sorts)."
    )


def test_glosses_become_sentences():
    gloss = b'1 n | a small stream; often dry: "the brook ran dry!"; "we crossed it"\n'
    assert list(read_wordnet(io.BytesIO(gloss)))[:4] == [
        "The brook ran dry!", "We crossed it.", "A small stream.", "Often dry."
    ]  # fmt: skip


# --- sentences


@pytest.mark.parametrize(
    ("paragraph", "expected"),
    [
        ("He met Dr. Smith. They ate.", ["He met Dr. Smith.", "They ate."]),
        ("J. S. Bach (born 1685 (old style)) wrote it.", ["J. S. Bach wrote it."]),
        ("The U.S. Senate met. It sat.", ["The U.S. Senate met.", "It sat."]),
        ("“Who?” Nobody knew.", ["“Who?”", "Nobody knew."]),
        ("It rained, e.g. Monday , a lot.", ["It rained, e.g. Monday, a lot."]),
        ("Он жил в Риме. Там было тепло.", ["Он жил в Риме.", "Там было тепло."]),
        ("यह नदी बहती है। वह गाँव है।", ["यह नदी बहती है।", "वह गाँव है।"]),
        ("It cost 3.5 or so. maybe more.", ["It cost 3.5 or so. maybe more."]),
        (" ", []),
    ],
)
def test_sentences(paragraph, expected):
    assert list(sentences(paragraph)) == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (ELBE, True),
        ("यह नदी यहाँ बहती है।", True),
        ("Too short by far.", True),
        ("Far too short.", False),
        ("and begins in the middle.", False),
        ("The end is missing here", False),
        ("See http://example.org for all of it.", False),
        ("The table has | in the middle.", False),
        ("In 1, 2, 3, 4, 5, 6, 7, 8.", False),
        ("A " + "very " * 60 + "long list.", False),
    ],
)
def test_only_running_text_is_kept(line, expected):
    assert is_running(line) is expected


# --- what comes twice, and what may not come


def test_lines_are_compared_by_their_letters():
    assert compared("In 1999, it’s “Café” no. 7.") == compared("in 2001 its cafe no")
    seen = Seen()
    assert [seen.add(line) for line in ("a b", "b a", "a b")] == [True, True, False]


def test_excluded_texts_are_found_as_whole_words():
    excluded = Excluded(["we go to the sea", "yes"])
    hits = ["Today we go to the sea again.", "go to the sea", "we go to the seaside", "yes", ""]
    assert [excluded.hit(compared(line)) for line in hits] == [True, True, False, False, False]
