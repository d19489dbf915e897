"""What still helps the bundled English model: its training goes on for a little, in several ways.

    export ASR_SHARED=…                                  # the shared recordings
    python benchmarks/further.py --jobs 2                # writes docs/further.md; flite is needed

Each row goes on from the bundle's weights with one thing changed, and is searched as the bundle is.
A row that was finished before is not run again, one that was cut off goes on: everything is under
--runs.
"""

from __future__ import annotations

import argparse
import json
import lzma
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ablations import LEXICON, SHARED, minutes, train, write_noises

from asr import audio
from asr.bundle import Bundle, bundled
from asr.data.manifest import read_manifest
from asr.files import replacing
from asr.metrics import ErrorCounts, compare, confidence_interval, total
from asr.packaging import package_run
from asr.recognizer import Recognizer
from asr.text.normalize import normalize
from data_prep.cli import cli as asr_prepare

BY_PEOPLE = ("commonvoice-en", "speechocean762", "ljspeech", "asterisk-en", "digits-fsdd")
PSEUDO = "commonvoice-en-pseudo"
DEV = ("commonvoice-en", "speechocean762", "coffee-commands")
SENTENCES = 1080  # that flite says: an hour
BUNDLE = "the bundle"

ROWS: dict[str, tuple[str, ...]] = {
    "2 epochs more": (),
    "no masks": ("augment.time_masks=0", "augment.frequency_masks=0"),
    "no dropout": ("model.dropout=0",),
    "4 epochs, without pseudo-labels": ("data.train=[{by_people}]", "trainer.epochs=4"),
    "an hour by flite too": ("data.train=[{by_people},{pseudo},{synthetic}]",),
    "1 epoch of two views": ("loss=consistent", "data.batch_frames=1000", "trainer.epochs=1"),
}


def settings(row: str, runs: Path) -> list[str]:
    """Overrides of `asr train`."""
    speech = SHARED / "speech"
    changed = [
        override.format(
            by_people=",".join(str(speech / source / "train.jsonl") for source in BY_PEOPLE),
            pseudo=speech / PSEUDO / "train.jsonl",
            synthetic=runs / "synthetic" / "synthetic.jsonl",
        )
        for override in ROWS[row]
    ]
    base = [
        "experiment=streaming",
        f"trainer.init={bundled()}",
        f"data.noises={runs / 'background.jsonl'}",
        f"data.rooms={runs / 'rooms.jsonl'}",
        "trainer.epochs=2",
        "trainer.average=1",
        "trainer.seed=7",
    ]
    names = {override.split("=")[0] for override in changed}
    return [override for override in base if override.split("=")[0] not in names] + changed


def synthesize(runs: Path) -> None:
    """Speech of four voices for sentences of the kind that Common Voice has read."""
    sentences = runs / "sentences.txt"
    with lzma.open(SHARED / "text" / "commonvoice-sentences-en.txt.xz", "rt") as lines:
        longer = [line for line in lines if len(line.split()) >= 8]
    sentences.write_text("".join(longer[:: len(longer) // SENTENCES][:SENTENCES]))
    command = ["synthesize", str(sentences), "--engine", "flite", "--to", str(runs / "synthetic")]
    asr_prepare(command, standalone_mode=False)


def export(run: Path, folder: Path) -> Bundle:
    """The bundle with the network of `run` in the place of its own."""
    bundle = Bundle.load(bundled())
    shutil.rmtree(folder, ignore_errors=True)  # of a script that was cut off
    return package_run(
        run,
        folder,
        name=bundle.config.name,
        head="phones",
        second="characters",
        lm=bundle.folder / "lm.bin",
        lexicon=LEXICON,
        punctuation=bundle.folder / "punctuation.onnx",
        decoder=bundle.config.decoder,
        right_context="all",
        card=bundle.card,
    )


def measure(bundle: Bundle) -> dict[str, list[float]]:
    """Word error rate of each dev set, and its 95 % interval."""
    recognizer = Recognizer(bundle, threads=1)
    rates = {}
    for name in DEV:
        utterances = read_manifest(SHARED / "speech" / name / "dev.jsonl")
        spoken = [u for u in utterances if normalize(u.text)]
        counts: list[ErrorCounts] = []
        for utterance in spoken:
            heard = recognizer.recognize([audio.read(utterance.audio_filepath)])[0].text
            counts.append(compare(normalize(utterance.text), heard).words)
        rates[name] = [total(counts).rate, *confidence_interval(counts)]
    return rates


def result(row: str, runs: Path) -> dict:
    run = runs / folder_name(row)
    kept = run / "errors.json"
    if kept.exists():
        return json.loads(kept.read_text())
    if row == BUNDLE:
        rates, spent = measure(Bundle.load(bundled())), 0.0
    else:
        rates, spent = measure(export(run, run / "bundle")), minutes(run)
    run.mkdir(exist_ok=True)
    with replacing(kept) as path:
        path.write_text(json.dumps({"rates": rates, "minutes": spent}), encoding="utf-8")
    return json.loads(kept.read_text())


def folder_name(row: str) -> str:
    return row.replace(" ", "-").replace(",", "")


def report(results: dict[str, dict]) -> str:
    lines = [
        "# Training on",
        "",
        "The bundled English model trained on from its weights (`experiment=streaming`), with one "
        "thing changed at a time, and searched with the settings of the bundle, whole recordings, "
        "in 8 bits. Word errors, %, with their 95 % interval; a difference within it may be "
        "chance. Cost: minutes of one core.",
        "",
        "```bash",
        "python benchmarks/further.py",
        "```",
        "",
        f"| changed | overrides of `asr train` | {' | '.join(DEV)} | cost, min |",
        "| --- | --- |" + " --- |" * (len(DEV) + 1),
    ]
    for row, found in results.items():
        shown = " ".join(ROWS.get(row, ()))
        rates = [
            f"{100 * rate:.1f} ({100 * low:.1f}–{100 * high:.1f})"
            for rate, low, high in (found["rates"][name] for name in DEV)
        ]
        lines.append(
            f"| {row} | {f'`{shown}`' if shown else ''} | {' | '.join(rates)} "
            f"| {found['minutes']:.0f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--runs", type=Path, default=Path("runs/further"))
    parser.add_argument("--output", type=Path, default=Path("docs/further.md"))
    options = parser.parse_args()
    runs = options.runs.resolve()
    runs.mkdir(parents=True, exist_ok=True)
    write_noises(runs)
    if any("{synthetic}" in override for row in options.rows for override in ROWS[row]):
        synthesize(runs)

    def begin(row: str) -> bool:
        return train(runs / folder_name(row), settings(row, runs))

    with ThreadPoolExecutor(options.jobs) as pool:
        if not all(pool.map(begin, options.rows)):
            raise SystemExit("some rows are not trained; the same command goes on")
    results = {row: result(row, runs) for row in [BUNDLE, *options.rows]}
    with replacing(options.output) as path:
        path.write_text(report(results), encoding="utf-8")
    print(options.output)


if __name__ == "__main__":
    main()
