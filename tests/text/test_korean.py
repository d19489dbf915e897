"""Korean numerals as they are said."""

import json
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.text import korean
from asr.text.normalize import normalize


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("0, 10, 21", "영, 십, 이십일"),
        ("1,234,567원", "백이십삼만사천오백육십칠원"),
        ("1억 2천만", "일억 이천만"),
        ("100000000", "일억"),
        ("2016년 6월 10일", "이천십육년 유월 십일"),
        ("10월 11일", "시월 십일일"),
        ("오후 2시 30분, 15시", "오후 두시 삼십분, 십오시"),
        ("5시간, 3시즌", "다섯시간, 삼시즌"),
        ("10살, 20명, 21명, 120명", "열살, 스무명, 스물한명, 백이십명"),
        ("2개, 2개국, 6개월, 2 개", "두개, 이개국, 육개월, 두 개"),
        ("26.7개", "이십육쩜칠개"),
        ("64.05%", "육십사쩜영오퍼센트"),
        ("5~10가지", "오에서 열가지"),
        ("15kg, 100M, 3GB", "십오킬로그램, 백미터, 삼기가바이트"),
        ("$100, ₩5천", "백달러, 오천원"),
        ("010-1234-5678", "공일공 일이삼사 오육칠팔"),
        ("119 구급대, 119명", "일일구 구급대, 백십구명"),
        ("01번", "공일번"),
        ("KBS에서 L.A까지", "케이비에스에서 엘에이까지"),
    ],
)
def test_spells_out_what_is_said(written, said):
    assert korean.spell_out(written) == said


@settings(deadline=None)
@given(st.integers(1, 99))
def test_native_numerals_are_distinct_and_made_of_syllables(number):
    others = {korean.native(n) for n in range(1, 100) if n != number}
    assert korean.native(number) not in others
    assert all(unicodedata.name(c).startswith("HANGUL SYLLABLE") for c in korean.native(number))


@settings(deadline=None)
@given(st.integers(0, 10**20 - 1))
def test_cardinals_can_be_read_back(number):
    assert _value(korean.cardinal(number)) == number


def _value(said: str) -> int:
    """The value of a Sino-Korean numeral, worked out place by place."""
    total = group = digit = 0
    for syllable in said:
        if syllable in korean._SINO:
            digit = korean._SINO.index(syllable)
        elif syllable in "십백천":
            group += (digit or 1) * 10 ** ("십백천".index(syllable) + 1)
            digit = 0
        else:
            total += (group + digit or 1) * 10 ** (4 * ("만억조경".index(syllable) + 1))
            group = digit = 0
    return total + group + digit


@settings(deadline=None)
@given(st.text(st.sampled_from("0123456789.,~-%$ 개시월명kgKB가"), max_size=30))
def test_any_muddle_of_digits_and_signs_gives_words(text):
    assert not any(c.isdigit() for c in korean.normalize(text))


def test_reads_a_real_corpus_as_its_speakers_did(shared):
    """Printed and spoken forms of the same sentences, as published; what differs are names."""
    right, pairs = 0, set()
    manifest = shared / "speech" / "korean-emotiontts" / "train.jsonl"
    for line in manifest.read_text(encoding="utf-8").splitlines():
        utterance = json.loads(line)
        if any(c.isdigit() for c in utterance["script"]):
            pairs.add((utterance["script"], utterance["text"]))
    for script, spoken in pairs:
        right += korean.normalize(script).replace(" ", "") == normalize(spoken).replace(" ", "")
    assert len(pairs) == 69
    assert right >= 62
