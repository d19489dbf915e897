import sys

from protocol import serve

import asr

recognizer = asr.load(sys.argv[1], threads=1, search=sys.argv[2])
serve(lambda path: recognizer.transcribe(path).text, sys.argv[1])
