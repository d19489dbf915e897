"""Subtitles and JSON for every recording of a folder:

python examples/transcribe_folder.py samples out
"""

import sys
from pathlib import Path

import asr
from asr.errors import AudioError

source, target = Path(sys.argv[1]), Path(sys.argv[2])
target.mkdir(parents=True, exist_ok=True)
recognizer = asr.load()  # once: it takes a second
for path in sorted(source.iterdir()):
    try:
        transcript = recognizer.transcribe(path)
    except AudioError as error:  # a text file, or a recording that cannot be read
        print(error, file=sys.stderr)
        continue
    transcript.save(target / f"{path.stem}.srt")
    transcript.save(target / f"{path.stem}.json")
    print(f"{path.name}: {transcript.text}")
