"""A client of asr-serve with the standard library alone:

asr-serve &
python examples/ask_server.py http://127.0.0.1:8000 samples/the-upper-house.wav
"""

import json
import sys
import urllib.request
from pathlib import Path

url, path = sys.argv[1], Path(sys.argv[2])
request = urllib.request.Request(f"{url}/v1/listen", path.read_bytes(), {"Content-Type": "audio/*"})
with urllib.request.urlopen(request) as answer:
    best = json.load(answer)["results"]["channels"][0]["alternatives"][0]
for word in best["words"]:
    print(f"{word['start']:6.2f} {word['end']:6.2f}  {word['confidence']:.2f}  {word['word']}")
print(best["transcript"])
