"""The web page in a real Chromium, its microphone fed from a recording."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
from browser import Browser, find
from sounds import RATE, TEXT, sound

from asr.audio import read

pytestmark = [
    pytest.mark.skipif(find() is None, reason="no Chromium here"),
    pytest.mark.slow,
]
FAKE = ("--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream")
SAMPLES = Path(__file__).parents[2] / "samples"


@pytest.fixture
def browse(tmp_path):
    """Open pages; ASR_SCREENSHOTS names a folder that gets pictures of them at the end."""
    opened: list[Browser] = []

    def open_page(url, *flags):
        folder = tmp_path / f"browser{len(opened)}"
        folder.mkdir()
        opened.append(Browser(folder, *flags))
        opened[-1].resize(1100, 860)
        opened[-1].open(url)
        return opened[-1]

    yield open_page
    for i, browser in enumerate(opened):
        if folder := os.environ.get("ASR_SCREENSHOTS"):
            browser.screenshot(Path(folder) / f"{tmp_path.name}-{i}.png")
        browser.close()


@pytest.fixture
def voice(tmp_path):
    """What the microphone hears: a recording that ends with a long silence."""
    path = tmp_path / "voice.wav"
    samples = sound(1.0, "bad cab", 0.6, "dad", 1.8, "a bed fed", 20.0)
    soundfile.write(path, samples, RATE, subtype="PCM_16")
    return f"--use-file-for-fake-audio-capture={path}%noloop"


def text(browser, selector):
    return browser.run(f"document.querySelector('{selector}').innerText")


def said(browser):
    spans = "[...document.querySelectorAll('#finals .words > span')]"
    return " ".join(browser.run(f"{spans}.map(span => span.textContent)"))


def colour(browser, selector):
    return browser.run(f"getComputedStyle(document.querySelector('{selector}')).color")


def test_the_microphone(server, browse, voice):
    page = browse(server.url + "/", *FAKE, voice)
    page.wait("document.querySelector('#status').dataset.state === 'ready'")
    # By keyboard: the first thing that the Tab key reaches is the button.
    page.press("Tab")
    assert page.run("document.activeElement.id") == "record"
    page.press("Enter")
    page.wait("document.querySelector('#partial').textContent.startsWith('bad')")
    assert colour(page, "#partial") == "rgb(118, 118, 118)"
    assert text(page, "#record-label") == "Stop"
    page.wait("document.querySelectorAll('#finals p').length === 1")
    assert said(page) == "bad cab dad"
    assert colour(page, "#finals .words") == "rgb(0, 0, 0)"
    page.wait("document.querySelector('#partial').textContent.startsWith('a b')")
    page.run("document.querySelector('#record').click()")  # in the middle of it
    page.wait("document.querySelector('#record-label').textContent === 'Speak'")
    assert said(page).startswith("bad cab dad a b")
    assert "%" in text(page, "#confidence")
    assert "%" in text(page, "#finals .margin")
    assert text(page, "#latency").endswith("ms")
    assert float(text(page, "#factor")) > 0
    assert "channel" in text(page, "#channels")
    assert page.run("Number(document.querySelector('#level').value)") >= -60
    bars = "wave => [...wave.getContext('2d').getImageData(0, 0, wave.width, wave.height).data]"
    for canvas in ("#wave", "#spectrum"):
        assert page.run(f"({bars})(document.querySelector('{canvas}')).some(value => value > 0)")
    assert page.problems == []
    server.wait(server.is_empty)


def test_real_words_appear(bundled_model, start, browse, tmp_path):
    """A sample recording goes through the microphone, the bundled model writes it down."""
    server = start(model=str(bundled_model.folder), decoder="beam", vad="auto")
    voice = tmp_path / "voice.wav"
    spoken = read(SAMPLES / "the-upper-house.wav")
    samples = np.concatenate([np.zeros(RATE), spoken, np.zeros(20 * RATE)])
    soundfile.write(voice, samples, RATE, subtype="PCM_16")
    page = browse(server.url + "/", *FAKE, f"--use-file-for-fake-audio-capture={voice}%noloop")
    page.run("document.querySelector('#record').click()")
    page.wait("document.querySelector('#finals p') !== null")
    assert {"the", "upper", "senate"} <= set(said(page).split())
    assert page.problems == []


def test_what_is_copied_and_saved(server, browse, recording, transcript, tmp_path):
    page = browse(server.url + "/")
    page.wait("document.querySelector('#status').dataset.state === 'ready'")
    assert page.run("document.querySelector('#copy').disabled")
    page.choose("#file", recording)
    page.wait("document.querySelectorAll('#finals p').length === 3")
    assert said(page) == TEXT == transcript.text
    page.run("document.querySelector('#copy').click()")
    page.wait("document.querySelector('#copy').textContent === 'Copied'")
    page._call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    page.run("document.querySelector('#srt').click()")
    saved = tmp_path / "transcript.srt"
    server.wait(lambda: saved.exists() and saved.stat().st_size > 0)
    lines = saved.read_text().splitlines()
    assert lines[0] == "1"
    assert lines[2] == "bad cab"
    assert [line for line in lines if line and " --> " not in line and not line.isdigit()] == [
        segment.text for segment in transcript.segments
    ]
    start = transcript.words[0].start
    assert lines[1].startswith(f"00:00:0{start:.3f} --> ".replace(".", ","))
    page.run("document.querySelector('#clear').click()")
    assert said(page) == ""
    assert page.problems == []


def test_what_is_corrected_is_exported(server, browse, recording, transcript, tmp_path):
    page = browse(server.url + "/")
    page.wait("document.querySelector('#status').dataset.state === 'ready'")
    page.choose("#file", recording)
    page.wait("document.querySelectorAll('#finals p').length === 3")
    first = "document.querySelector('#finals .words')"
    page.run(f"{first}.textContent = 'bad old cab'; {first}.dispatchEvent(new Event('blur'))")
    assert said(page).startswith("bad old cab")
    page._call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    for format in ("txt", "vtt", "json"):
        page.run(f"document.querySelector('#{format}').click()")
        saved = tmp_path / f"transcript.{format}"
        server.wait(lambda saved=saved: saved.exists() and saved.stat().st_size > 0)
        assert "bad old cab" in saved.read_text()
    assert (tmp_path / "transcript.vtt").read_text().startswith("WEBVTT\n\n00:00:0")
    [bad, old, cab] = json.loads((tmp_path / "transcript.json").read_text())["segments"][0]["words"]
    assert bad["end"] <= old["start"] <= old["end"] <= cab["start"]
    assert bad["start"] == pytest.approx(transcript.words[0].start, abs=0.01)
    page.run("document.querySelector('#language').click()")
    assert text(page, "#record-label") == "말하기"
    assert page.run("document.documentElement.lang") == "ko"
    assert page.problems == []


def test_dropped_files_show_progress_and_errors(server, browse, tmp_path):
    page = browse(server.url + "/")
    (tmp_path / "no.wav").write_bytes(b"garbage" * 1000)
    page.run(
        "window.shown = 0; new MutationObserver(() => shown++).observe("
        "document.querySelector('#progress-label'), {childList: true})"
    )
    drop = (
        "const data = new DataTransfer();"
        "data.items.add(new File(['garbage'.repeat(1000)], 'no.wav'));"
        "document.dispatchEvent(new DragEvent('drop', {dataTransfer: data, cancelable: true}));"
    )
    page.run(f"(() => {{ {drop} }})()")
    page.wait("!document.querySelector('#alert').hidden")
    assert "no.wav" in text(page, "#alert")
    assert page.run("window.shown") > 0
    assert page.run("document.querySelector('#progress-row').hidden")


def test_a_refused_microphone_is_explained(server, browse):
    page = browse(
        server.url + "/", "--use-fake-device-for-media-stream", "--deny-permission-prompts"
    )
    page.run("document.querySelector('#record').click()")
    page.wait("!document.querySelector('#alert').hidden")
    assert "Allow it for this page" in text(page, "#alert")
    assert text(page, "#record-label") == "Speak"
    assert not page.run("document.querySelector('#record').disabled")


def test_keys_are_asked_for(start, browse, voice):
    server = start(api_key=("secret",))
    page = browse(server.url + "/", *FAKE, voice)
    page.run("document.querySelector('#record').click()")
    page.wait("!document.querySelector('#key-form').hidden")
    page.run("document.querySelector('#key').value = 'secret'")
    page.run("document.querySelector('#key-form').requestSubmit()")
    page.run("document.querySelector('#record').click()")
    page.wait("document.querySelector('#partial').textContent !== ''")
    assert page.run("document.querySelector('#alert').hidden")


def test_phones(server, browse):
    page = browse(server.url + "/")
    page.resize(360, 740, mobile=True)
    assert page.run("document.documentElement.scrollWidth") <= 360
    box = "document.querySelector('#record').getBoundingClientRect()"
    assert page.run(f"{box}.height") >= 44


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 48_000, 96_000, 192_000])
def test_the_worklets_resampler(server, browse, rate):
    """A tone keeps its height and pitch, one above 8 kHz disappears, at every rate."""
    page = browse(server.url + "/")
    gain = """async (from, hertz) => {
        const { Resampler, RATE } = await import('/page/worklet.js');
        const resampler = new Resampler(from, RATE);
        const sine = (_, i) => Math.sin(2 * Math.PI * hertz * i / from);
        const wave = Float32Array.from({length: from / 2}, sine);
        let out = [];
        for (let i = 0; i < wave.length; i += 128) {
            out.push(...resampler.feed(wave.subarray(i, i + 128)));
        }
        const n = out.length;
        out = out.slice(1000, 7000);
        let re = 0, im = 0, power = 0;
        out.forEach((x, i) => {
            const angle = 2 * Math.PI * hertz * (i + 1000) / RATE;
            re += x * Math.cos(angle); im += x * Math.sin(angle); power += x * x;
        });
        return [n, 2 * Math.hypot(re, im) / out.length, Math.sqrt(2 * power / out.length)];
    }"""
    for hertz in (100, 1000, 3000):
        count, amplitude, level = page.run(f"({gain})({rate}, {hertz})")
        assert abs(count - 8000) < 64
        assert amplitude == pytest.approx(1, abs=0.01)
        assert level == pytest.approx(1, abs=0.01)
    if rate > 2 * 9000:
        assert page.run(f"({gain})({rate}, 9000)")[2] < 0.001
