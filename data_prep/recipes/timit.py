"""TIMIT, with its phones: 462 speakers to train on, 50 for development, the 24 of the core test.

    TRAIN/DR1/FCJF0/SX37.WAV (.PHN .WRD .TXT)     as the LDC distributes it, in either case
    timit/dr1-fvmh0/sx116.wav (.phn .wrd .txt)    NLTK's sample

The two SA sentences are left out: all speakers read the same, so they would be in training and
test (Lee and Hon 1989; Graves et al. 2013 for the development set).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from data_prep.corpus import Clip, Corpus, CorpusError, Splits

CORE_TEST = frozenset(
    """fdhc0 felc0 fjlm0 fmgd0 fmld0 fnlp0 fpas0 fpkt0 mbpm0 mcmj0 mdab0 mgrt0 mjdh0 mjln0 mjmp0
    mklt0 mlll0 mlnt0 mnjm0 mpam0 mtas1 mtls0 mwbt0 mwew0""".split()
)
DEVELOPMENT = frozenset(
    """fadg0 faks0 fcal1 fcmh0 fdac1 fdms0 fdrw0 fedw0 fgjd0 fjem0 fjmg0 fjsj0 fkms0 fmah0 fmml0
    fnmr0 frew0 fsem0 majc0 mbdg0 mbns0 mbwm0 mcsh0 mdlf0 mdls0 mdvc0 mers0 mgjf0 mglb0 mgwt0 mjar0
    mjfc0 mjsw0 mmdb1 mmdm2 mmjr0 mmwh0 mpdf0 mrcs0 mreb0 mrjm4 mrjr0 mroa0 mrtk0 mrws1 mtaa0 mtdt0
    mteb0 mthc0 mwjg0""".split()
)


def read(folders: Sequence[Path], parts: Sequence[str]) -> Splits:
    root = folders[0]
    transcripts = sorted(p for p in root.rglob("*") if p.suffix.lower() == ".phn")
    if not transcripts:
        raise CorpusError(f"{root}: no .phn files", "name the folder that holds TRAIN and TEST")
    splits: dict[str, list[Path]] = {}
    for path in transcripts:
        split = _split(path.relative_to(root), _speaker(path))
        if split and not path.stem.lower().startswith("sa"):
            splits.setdefault(split, []).append(path)
    return {name: map(_clip, sorted(paths)) for name, paths in sorted(splits.items())}


def _split(path: Path, speaker: str) -> str:
    """Empty for the test speakers that are neither in the core test nor in the development set."""
    if "test" not in [folder.lower() for folder in path.parts]:
        return "train"
    return "test" if speaker in CORE_TEST else "dev" if speaker in DEVELOPMENT else ""


def _speaker(path: Path) -> str:
    return path.parent.name.lower().rpartition("-")[2]  # dr1-fvmh0


def _clip(path: Path) -> Clip:
    siblings = {p.suffix.lower(): p for p in path.parent.glob(f"{path.stem}.*")}
    if ".wav" not in siblings or ".txt" not in siblings:
        raise CorpusError(f"{path}: no .wav or .txt beside it")
    speaker = _speaker(path)
    text = siblings[".txt"].read_text(encoding="utf-8").split(maxsplit=2)[2].strip()
    phones = [
        label for _, _, label in map(str.split, path.read_text(encoding="utf-8").splitlines())
    ]
    name = f"{speaker}-{path.stem.lower()}"
    return Clip(siblings[".wav"], text, speaker, name, extra={"phones": phones})


CORPUS = Corpus(
    name="timit",
    title="TIMIT: read sentences with hand-made phone labels",
    licence="LDC user agreement",
    languages="en",
    hours=5.4,
    read=read,
    instructions=(
        "buy it from the LDC (https://catalog.ldc.upenn.edu/LDC93S1), then: "
        "asr-prepare timit --from-archive timit_LDC93S1.tgz --to DIR, or --from-folder FOLDER"
    ),
    page="https://catalog.ldc.upenn.edu/LDC93S1",
)
