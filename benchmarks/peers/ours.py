from protocol import serve

import asr

recognizer = asr.load(threads=1)
serve(lambda path: recognizer.transcribe(path).text)
