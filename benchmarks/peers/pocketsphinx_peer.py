import wave

from pocketsphinx import Decoder, get_model_path
from protocol import serve

decoder = Decoder(loglevel="FATAL")


def transcribe(path: str) -> str:
    with wave.open(path) as file:
        samples = file.readframes(file.getnframes())
    decoder.start_utt()
    decoder.process_raw(samples, full_utt=True)
    decoder.end_utt()
    hypothesis = decoder.hyp()
    return hypothesis.hypstr if hypothesis else ""


serve(transcribe, get_model_path())
