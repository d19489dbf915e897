"""English numbers, dates, times, money and abbreviations in words."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.text import english
from asr.text.normalize import normalize


@pytest.mark.parametrize(
    ("written", "said"),
    [
        # numbers
        ("0, 13, 40 and 99", "zero, thirteen, forty and ninety nine"),
        ("1,234,567", "one million two hundred thirty four thousand five hundred sixty seven"),
        ("3.14 and .5", "three point one four and point five"),
        ("it was -5 outside", "it was minus five outside"),
        ("a well-known 10-20 split", "a well-known ten to twenty split"),
        ("007", "zero zero seven"),
        ("the 22nd and 112th", "the twenty second and one hundred twelfth"),
        ("1/2, 3/4, 5/8 and 2 1/2", "one half, three quarters, five eighths and two and one half"),
        ("open 24/7", "open twenty four seven"),
        ("mp3, B2B, H.323", "mp three, B two B, H.three hundred twenty three"),
        ("call 555-1234", "call five five five one two three four"),
        ("No. 5, #7. No. I said no.", "number five, number seven. No. I said no."),
        # years and dates
        ("in 1776, 1905, 1900, 2008", "in seventeen seventy six, nineteen oh five, "
         "nineteen hundred, two thousand eight"),
        ("1914-1918", "nineteen fourteen to nineteen eighteen"),
        ("the 1980s and '90s", "the nineteen eighties and nineties"),
        ("July 4th, 1976", "july fourth nineteen seventy six"),
        ("Dec. 25, Jan. 1999", "december twenty fifth, january nineteen ninety nine"),
        ("3 May 2020", "the third of may twenty twenty"),
        ("the 3rd of May", "the third of may"),
        ("2024-05-01", "may first twenty twenty four"),
        ("12/25/1999, 25/12/99", "december twenty fifth nineteen ninety nine, "
         "december twenty fifth nineteen ninety nine"),
        ("March on, May 5 people", "March on, may fifth people"),
        # times
        ("at 10:30", "at ten thirty"),
        ("3:05 p.m. to 9 AM", "three oh five p m to nine a m"),
        ("7:00 or 19:00", "seven o'clock or nineteen hundred"),
        # money, units
        ("$5.30, $1, $0.05", "five dollars and thirty cents, one dollar, five cents"),
        ("£1.01 and €1,000", "one pound and one penny and one thousand euros"),
        ("$3.5 million", "three point five million dollars"),
        ("5% of 1 km", "five percent of one kilometer"),
        ("20°C", "twenty degrees celsius"),
        # abbreviations and signs
        ("Dr. Smith vs. Mr Jones", "doctor Smith versus mister Jones"),
        ("St. Louis, Main St.", "Saint Louis, Main street"),
        ("cats, dogs, etc.", "cats, dogs, et cetera"),
        ("me@home, 3+4 = seven", "me at home, three plus four equals seven"),
    ],
)  # fmt: skip
def test_spells_out_what_is_said(written, said):
    assert english.spell_out(written) == said


@pytest.mark.parametrize(
    "text", ["February 30", "10:75", "13/13/2020", "Mr. 99:99:99", "$", "5 ft 70 May"]
)
def test_no_such_date_or_time_is_still_said_in_words(text):
    said = english.spell_out(text)
    assert not any(c.isdigit() for c in said), said


@settings(deadline=None)
@given(st.text(st.sampled_from("0123456789.,:/-$£%°stndrhapm MayJulNoDr'’½²"), max_size=40))
def test_any_muddle_of_digits_and_signs_gives_words(text):
    said = english.normalize(text)
    assert not any(c in "0123456789" for c in said)
    assert english.normalize(said) == said


@settings(deadline=None)
@given(st.integers(-(10**18) + 1, 10**18 - 1))
def test_cardinals_agree_with_num2words(number):
    num2words = pytest.importorskip("num2words").num2words
    expected = normalize(num2words(number)).split()
    assert english.cardinal(number).split() == [word for word in expected if word != "and"]


@settings(deadline=None)
@given(st.integers(1, 10**6))
def test_ordinals_agree_with_num2words(number):
    num2words = pytest.importorskip("num2words").num2words
    expected = normalize(num2words(number, to="ordinal")).split()
    assert english.ordinal(number).split() == [word for word in expected if word != "and"]


@settings(deadline=None)
@given(st.integers(1100, 1999))
def test_years_agree_with_num2words(number):
    num2words = pytest.importorskip("num2words").num2words
    expected = normalize(num2words(number, to="year"))
    assert english.year(number) == expected


def test_transcripts_that_are_words_already_stay_as_they_are(shared):
    """Common Voice and LJ Speech are read from spelled-out sentences: nothing may be invented."""
    changed = []
    for manifest in ("commonvoice-en/train.jsonl", "ljspeech/train.jsonl"):
        for line in (shared / "speech" / manifest).read_text(encoding="utf-8").splitlines():
            text = json.loads(line)["text"]
            if not any(c.isdigit() for c in text) and english.normalize(text) != normalize(text):
                changed.append(text)
    assert len(changed) < 20, changed
