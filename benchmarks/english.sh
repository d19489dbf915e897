#!/usr/bin/env bash
# The bundled English model, from recordings and texts to the bundle. A step whose output exists is
# skipped, so that the script goes on where it was stopped.
#
#     export ASR_SHARED=…                     # the shared recordings and texts
#     benchmarks/english.sh bundle            # everything; or one step and what it needs:
#     benchmarks/english.sh network           # the network: HOURS=30 on two cores
#     benchmarks/english.sh ngrams            # the 4-grams: an hour of a core
#     benchmarks/english.sh rescorer          # the recurrent language model: an hour of a core
#     benchmarks/english.sh punctuation       # case and punctuation: an hour of a core
#
# INIT=asr/bundled/en starts the network from that of a bundle, in less time.
set -euo pipefail
: "${ASR_SHARED:?export the folder of the shared recordings and texts}"
S=$ASR_SHARED/speech T=$ASR_SHARED/text
L=runs/lm  # texts by kind, and a language model of each
more=corpora/more-text  # by text/extract.py of the shared texts
HOURS=${HOURS:-30} INIT=${INIT:-}

# Manifests and a lexicon of their words; corpora/more is made by speech/more/gather.py.
speech() {
  [ -e runs/rooms.jsonl ] || python benchmarks/english.py noises
  [ -e runs/lexicon.dict.xz ] || python benchmarks/english.py speech --agree 0.7 \
    --more corpora/more --repeat commonvoice-en=2 --repeat spelled=4
}

# A run of SHARE thousandths of the time: trained NAME SHARE [SETTINGS…]
trained() {
  local name=$1 minutes
  minutes=$(awk "BEGIN {print $HOURS * 60 * $2 / 1000}")
  shift 2
  asr train experiment=english_crf "data.train=[runs/speech.jsonl]" data.language=en \
    data.min_duration=0.15 data.cache=true heads.phones.lexicon=runs/lexicon.dict.xz \
    augment.noise=0.3 augment.room=0.15 augment.telephone=0.07 trainer.threads=1 \
    trainer.ema=0.998 trainer.average=1 trainer.epochs=1000 optimizer.warmup_steps=100 \
    "run=runs/$name" "trainer.minutes=$minutes" "$@"
}

# Two runs beside each other, one a core, and the mean of their weights: both NAME INIT SHARE RATE DECAY
# They never wait for each other (local SGD, Stich 2019).
both() {
  local name=$1 init=$2 share=$3 seed jobs=()
  [ -e "runs/$name/best.safetensors" ] && return
  for seed in 1 2; do
    trained "$name-$seed" "$share" "trainer.init=$init" "trainer.seed=$((10 * ${name: -1} + seed))" \
      "optimizer.learning_rate=$4" "optimizer.decay=$5" &
    jobs+=($!)
  done
  for seed in 0 1; do wait "${jobs[$seed]}"; done
  mkdir -p "runs/$name"
  cp "runs/$name-1"/{model.json,log.jsonl} "runs/$name"
  python benchmarks/english.py average "runs/$name"-{1,2}/best.safetensors \
    --output "runs/$name/best.safetensors"
}

# CTC, and when it knows roughly where phones are, CTC-CRF; then rounds of two runs. A rate of 1e-3
# that falls at the end of the last round only.
network() {
  speech
  local init=$INIT
  if [ -z "$init" ]; then
    init=runs/english-0/best.safetensors
    [ -e runs/english-1/best.safetensors ] || trained english-0 200 trainer.masks_from=3 \
      trainer.crf_from=6 optimizer.learning_rate=1.5e-3 optimizer.decay=0.001
  fi
  both english-1 "$init" 200 1e-3 0.001
  both english-2 runs/english-1/best.safetensors 200 1e-3 0.001
  both english-3 runs/english-2/best.safetensors 200 1e-3 0.001
  both english-4 runs/english-3/best.safetensors 200 1e-3 0.9
}

# Transcripts, novels and dialogues, and for each kind of speech a text that the mixture should fit.
texts() {
  speech
  [ -e $L/novels.txt ] || python benchmarks/english.py texts --to $L
  [ -e $L/dictation.txt ] || asr-prepare dictation --lines 60000 --to $L/dictation.txt
  [ -e corpora/text/wordnet.txt ] || asr-prepare text --to corpora/text \
    --without "$S/commonvoice-en/dev.jsonl" --without "$S/speechocean762/dev.jsonl" \
    --without "$S/coffee-commands/dev.jsonl" --without "$S/librispeech/dev.jsonl"
  [ -e $L/lexicon.dict.xz ] || python benchmarks/english.py lexicon $more/*.txt \
    --min-count 60 --to $L/lexicon.dict.xz
}

# 4-grams of one kind of text: model NAME TEXTS… [OPTIONS…]
model() {
  local output=$L/$1.bin
  shift
  [ -e "$output" ] || asr lm train "$@" --order 4 --vocabulary-size 100000 \
    --among $L/lexicon.dict.xz --output "$output"
}

# 4-grams of everything, mixed and pruned to less than 50 MB.
ngrams() {
  texts
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
  for name in cv cv cv cv cv librispeech novels dialogues orders spelled; do
    dev+=(--dev "$L/$name-dev.txt")
  done
  [ -e $L/lm.bin ] || asr lm mix $L/{wikipedia,books,encyclopaedia,novels,sentences,talk}.bin \
    $L/{dialogues,dictation}.bin "${dev[@]}" --entropy 1e-8 --output $L/lm.bin
}

# The recurrent model: all that resembles speech, and a sample of what there is plenty of.
rescorer() {
  texts
  [ -e $L/rescorer.onnx ] && return
  awk 'NR % 7 == 0' $more/enwiki-*.txt > $L/wikipedia-sample.txt
  awk 'NR % 30 == 0' $more/gutenberg-authors.txt $more/eltec-eng.txt > $L/books-sample.txt
  awk 'NR % 3 == 0' $L/dialogues.txt $L/dictation.txt > $L/dialogues-sample.txt
  asr train task=language_model experiment=language_model/english run=runs/rescorer
  asr lm export runs/rescorer $L/rescorer.onnx
}

punctuation() {
  [ -e runs/punctuation.onnx ] && return
  asr train task=punctuation experiment=punctuation/english
  rm -f runs/punctuation/english/best.safetensors  # the weights at the end are better
  asr punctuation export runs/punctuation/english runs/punctuation.onnx
}

bundle() {
  network
  ngrams
  rescorer
  punctuation
  [ -e models/en ] && return
  asr export runs/english-4 models/en --name english-small --head phones --second characters \
    --lm $L/lm.bin --rescorer $L/rescorer.onnx --lexicon $L/lexicon.dict.xz \
    --card docs/model-card-en.md --punctuation runs/punctuation.onnx \
    --decoder "$(python -c 'import json; print(json.dumps(json.load(
      open("asr/bundled/en/config.json"))["decoder"]))')"
  asr tune --confidence-only -m models/en "$S/commonvoice-en/dev.jsonl" \
    "$S/coffee-commands/dev.jsonl" "$S/speechocean762/dev.jsonl" "$S/librispeech/dev.jsonl"
}

case "${1-}" in
  speech | network | texts | ngrams | rescorer | punctuation | bundle) "$1" ;;
  *)
    echo "usage: benchmarks/english.sh speech|network|texts|ngrams|rescorer|punctuation|bundle" >&2
    exit 2
    ;;
esac
