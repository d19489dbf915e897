"""English numbers, dates, times, money and abbreviations in words."""

import json

import pytest
from hypothesis import example, given, settings
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
    ("written", "said"),
    [
        # dates, numbers and fractions that look alike
        ("9/11", "nine eleven"),
        ("9/11/2001", "september eleventh two thousand one"),
        ("3/4 and 5/16", "three quarters and five sixteenths"),
        ("2½ cups, ½ and ⅞", "two and one half cups one half and seven eighths"),
        ("2000/01/02 or 01.02.2003", "january second two thousand or the first of february two "
         "thousand three"),
        ("№7, № 8, No. 9, Nº 10, Nos. 1 and 2", "number seven number eight number nine number ten "
         "numbers one and two"),
        ("1990-95, 1990–1995", "nineteen ninety to ninety five nineteen ninety to nineteen ninety "
         "five"),
        ("3.5.1", "three point five point one"),
        ("1\u202f000\u202f000", "one million"),
        ("21ST and 2nd", "twenty first and second"),
        # lengths, temperatures, units
        ("5'10\"", "five foot ten"),
        ("6'2½\" tall", "six foot two and one half tall"),
        ("a 3 1/2\" pipe and ¾\"", "a three and one half inches pipe and three quarters inch"),
        ("½% of 2½%", "one half percent of two and one half percent"),
        ("1/2 km, 3½ miles", "one half kilometer three and one half miles"),
        ("5th Dec 2024, Dec 5 2024", "the fifth of december twenty twenty four december fifth"
         " twenty twenty four"),
        ("she is 6’2” tall", "she is six foot two tall"),
        ("6 ft 2 in and 1 ft 1 in", "six feet two inches and one foot one inch"),
        ('a 6" pipe, “chapter 6”', "a six inches pipe chapter six"),
        ("5' tall", "five feet tall"),
        ("-5°C, −5 °F, 45°", "minus five degrees celsius minus five degrees fahrenheit forty five "
         "degrees"),
        ("5%, 50 %, 5%-10%, 3‰", "five percent fifty percent five percent to ten percent three per "
         "mille"),
        ("60 km/h, 10 m/s, 5 m², 20 m2, 3 m", "sixty kilometers per hour ten meters per second "
         "five square meters twenty square meters three meters"),
        ("10 min, 3 hrs, 1 hr, 5 kg", "ten minutes three hours one hour five kilograms"),
        ("2x4, 5 ÷ 2, ±5, ~5, ≤5", "two by four five divided by two plus or minus five about five "
         "less than or equal to five"),
        # times
        ("5:30, 5:30pm, 17:45:10", "five thirty five thirty p m seventeen forty five and ten "
         "seconds"),
        ("10am-5pm, 9-5", "ten a m to five p m nine to five"),
        ("odds of 3:1, John 3:16", "odds of three to one john three sixteen"),
        # telephones
        ("(212) 555-1234", "two one two five five five one two three four"),
        ("212.555.1234 or 2125551234", "two one two five five five one two three four or two one "
         "two five five five one two three four"),
        ("+44 20 7946 0958", "plus four four two zero seven nine four six zero nine five eight"),
        ("1-800-555-0199, dial 911", "one eight zero zero five five five zero one nine nine dial "
         "nine one one"),
        # Roman numerals, where they are some
        ("Henry VIII and Elizabeth II's", "henry the eighth and elizabeth the second's"),
        ("World War II, Chapter IV, Rocky IV", "world war two chapter four rocky four"),
        ("Part I, section III", "part one section three"),
        ("When I mix vitamin C, the part I like", "when i mix vitamin c the part i like"),
        ("MCMXCIV, an IV, DIY, CIVIL", "nineteen ninety four an iv diy civil"),
        # money
        ("$5M, $2.5bn, €5k, £3 billion", "five million dollars two point five billion dollars five "
         "thousand euros three billion pounds"),
        ("$5-10, $5–$10 million", "five to ten dollars five to ten million dollars"),
        ("US$5, 5 €, 5€, 10¢, EUR 5, 5 USD", "five us dollars five euros five euros ten cents five "
         "euros five us dollars"),
        ("S$19.90, -$5, $1.999", "nineteen singapore dollars and ninety cents minus five dollars "
         "one point nine nine nine dollars"),
        ("ABC$5", "abc five dollars"),
        # addresses, signs, scores
        ("a@b.com, j.doe@example.co.uk.", "a at b dot com j dot doe at example dot co dot uk"),
        ("www.example.com, https://example.com/a", "w w w dot example dot com example dot com "
         "slash a"),
        ("C++, C#, A+, R&B, AT&T", "c plus plus c sharp a plus r and b at and t"),
        ("#1, #MeToo, @john", "number one hashtag metoo at john"),
        ("won 3-2", "won three to two"),
        ("the 1990s, '90s and 2000s", "the nineteen nineties nineties and two thousands"),
        ("Ch. 3, vol. 2, pp. 5-7, §5", "chapter three volume two pages five to seven section five"),
        ("w/o, w/ and c/o", "without with and care of"),
        # characters
        ("I love it 😀🎉 👍🏽 ❤️", "i love it"),
        ("１２３ ＡＢＣ ＄５", "one hundred twenty three abc five dollars"),
        ("٣٤ and ①", "thirty four and one"),
        ("co\u00adoperate Nice™", "cooperate nice"),
        ("M2M, MP3, 4K", "m two m mp three four k"),
        # ranges, codes, rates
        ("3-4 pm, 10:00–11:30", "three to four p m ten o'clock to eleven thirty"),
        ("5.30pm, 1990s-2000s", "five thirty p m nineteen nineties to two thousands"),
        ("5-10-15", "five ten fifteen"),
        ("123-45-6789", "one two three four five six seven eight nine"),
        ("4111 1111 1111 1111", "four one one one " + "one one one one " * 2 + "one one one one"),
        ("(555)123-4567", "five five five one two three four five six seven"),
        ("1.5M, 2M people, 3bn users, 3M", "one point five million two million people three "
         "billion users three m"),
        ("$10/hr, 5*3, 5-2=3, 50-50", "ten dollars per hour five times three five minus two equals "
         "three fifty fifty"),
        ("10 km², km²", "ten square kilometers square kilometers"),
        ("2/3rds, 1 1/2", "two thirds one and one half"),
        ("Super Bowl LIV, size XL, Vol. III", "super bowl fifty four size xl volume three"),
        ("Mary I of England, Malcolm X", "mary the first of england malcolm x"),
    ],
)  # fmt: skip
def test_normalizes_what_people_write(written, said):
    assert english.normalize(written) == said


WORDS = st.sampled_from(
    "we saw the house when they came home and it was very late indeed yesterday".split()
)
NUMBERS = st.sampled_from(
    "9/11 №7 5'10\" ½ 3/4 12/05/2024 5:30 5:30pm -5°C 1990-95 555-1234 2nd $5M 5% 3‰ 60km/h C++ @ "
    "#1 R&B a@b.com 1990s '90s 3-2 １２ 😀 MP3 24/7 1,000 007 £2.50 +1 IV".split()
)


@settings(deadline=None)
@given(st.lists(st.one_of(WORDS, NUMBERS), max_size=12))
def test_no_word_is_lost_among_numbers(tokens):
    said = english.normalize(" ".join(tokens)).split()
    assert not any(c.isdecimal() for c in "".join(said))
    rest = iter(said)
    kept = [token for token in tokens if token.isascii() and token.islower() and token.isalpha()]
    assert all(word in rest for word in kept)  # in this order


@settings(deadline=None)
@example("0¿\u08ca")
@given(st.text(max_size=40))
def test_any_text_is_spelled_once_and_for_all(text):
    said = english.normalize(text)
    assert english.normalize(said) == said
    assert not any(c.isdecimal() for c in said)


@settings(deadline=None)
@given(
    st.lists(
        st.sampled_from(
            "Mr Mr. Dr.Who Capt. St. St.Paul Vol. III Mary I of etc. e.g. Rocky IV Part I, V. X "
            "chapter IV MCMXCIV www.a a.org x.co.uk é “Yes” it's Ltd. W. I II's".split()
        ),
        max_size=6,
    )
)
def test_what_is_passed_over_quickly_would_not_have_changed(parts):
    text = " ".join(parts)
    slowly = text
    for _, rules in english._rules():
        for pattern, reading in rules:
            slowly = pattern.sub(reading, slowly)
    assert english.spell_out(text) == slowly


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
