"""What hot words change:

python examples/find_names.py samples/the-old-observatory.opus observatory
"""

import sys

import asr

path, *names = sys.argv[1:]
recognizer = asr.load()
print("without:", recognizer.transcribe(path).text)
print("with:   ", recognizer.transcribe(path, hotwords=names).text)
