#!/usr/bin/env bash
# The language models of the bundled English model, from texts to one file. A step whose output
# exists is skipped.
#
#     export ASR_SHARED=…                     # the shared recordings and texts
#     benchmarks/english.sh ngrams            # this step, and those that it needs
set -euo pipefail
: "${ASR_SHARED:?export the folder of the shared recordings and texts}"
S=$ASR_SHARED/speech T=$ASR_SHARED/text
L=runs/lm  # texts by kind, and a language model of each

# Transcripts, novels and dialogues, and for each kind of speech a text that the mixture should fit.
texts() {
  [ -e $L/novels.txt ] || python benchmarks/english.py texts --to $L
  [ -e $L/dictation.txt ] || asr-prepare dictation --lines 60000 --to $L/dictation.txt
  [ -e corpora/text/wordnet.txt ] || asr-prepare text --to corpora/text \
    --without "$S/commonvoice-en/dev.jsonl" --without "$S/speechocean762/dev.jsonl" \
    --without "$S/coffee-commands/dev.jsonl" --without "$S/librispeech/dev.jsonl"
}

# 4-grams of one kind of text: model NAME TEXTS… [OPTIONS…]
model() {
  local output=$L/$1.bin
  shift
  [ -e "$output" ] || asr lm train "$@" --order 4 --vocabulary-size 65536 \
    --among runs/lexicon.dict.xz --output "$output"
}

# 4-grams of everything, mixed and pruned to 45 MB.
ngrams() {
  texts
  local more=corpora/more-text  # by text/extract.py of the shared texts
  model wikipedia $more/enwiki-*.txt --prune 0,0,1,1
  model books $more/gutenberg-authors.txt $more/eltec-eng.txt --prune 0,0,1,1
  model encyclopaedia corpora/text/*.txt
  model novels $L/novels.txt
  model sentences $L/transcripts.txt "$T/commonvoice-sentences-en.txt.xz" "$T/tatoeba-en.txt.xz"
  model talk "$T/masc.txt.xz" "$T/reviews-en.txt.xz" "$T/us-speeches.txt.xz" $more/spacelog.txt \
    "$T/switchboard-sample.txt.xz" "$T/voice-commands-en.txt.xz"
  model dialogues $L/dialogues.txt
  model dictation $L/dictation.txt
  local dev=() name
  for name in cv cv cv librispeech novels dialogues orders spelled; do
    dev+=(--dev "$L/$name-dev.txt")
  done
  [ -e $L/lm.bin ] || asr lm mix $L/{wikipedia,books,encyclopaedia,novels,sentences,talk}.bin \
    $L/{dialogues,dictation}.bin "${dev[@]}" --entropy 1.5e-8 --output $L/lm.bin
}

case "${1-}" in
  texts | ngrams) "$1" ;;
  *) echo "usage: benchmarks/english.sh texts|ngrams" >&2 && exit 2 ;;
esac
