// What was said: finals in black with times and confidence, what may still change in grey.

const UNSURE = 0.5; // words less certain than this are underlined
const CUE_SECONDS = 7;
const CUE_CHARACTERS = 84; // two lines of a subtitle

export class Transcript {
  constructor(finals, partial) {
    this.finals = finals;
    this.partial = partial;
    this.clear();
  }

  clear() {
    this.segments = [];
    this.offset = 0; // seconds that earlier recordings took
    this.finals.replaceChildren();
    this.partial.textContent = "";
  }

  // What comes next has a clock of its own, which begins when the last one ends.
  begin() {
    this.offset = this.segments.at(-1)?.end ?? 0;
  }

  show(partial) {
    this.partial.textContent = partial;
  }

  add({ text, start, end, words }) {
    const segment = {
      text,
      start: start + this.offset,
      end: end + this.offset,
      words: words.map((w) => ({ ...w, start: w.start + this.offset, end: w.end + this.offset })),
    };
    this.segments.push(segment);
    this.partial.textContent = "";
    this.finals.append(paragraph(segment));
    this.partial.scrollIntoView({ block: "nearest" });
  }

  get text() {
    return this.segments.map((segment) => segment.text).join("\n");
  }

  get confidence() {
    return mean(this.segments.flatMap((segment) => segment.words));
  }

  get srt() {
    return this.segments
      .flatMap(cues)
      .map((cue, i) => `${i + 1}\n${clock(cue.start, 3)} --> ${clock(cue.end, 3)}\n${cue.text}\n`)
      .join("\n");
  }
}

// Seconds as 1:02, or with `digits` as subtitles want them: 00:01:02,000.
export function clock(seconds, digits = 0) {
  const total = Math.max(0, Math.round(seconds * 1000));
  const two = (number) => String(Math.floor(number)).padStart(2, "0");
  const [hours, minutes, rest] = [total / 3600000, (total / 60000) % 60, (total / 1000) % 60];
  if (digits) {
    return `${two(hours)}:${two(minutes)}:${two(rest)},${String(total % 1000).padStart(3, "0")}`;
  }
  return `${Math.floor(total / 60000)}:${two(rest)}`;
}

export function percent(share) {
  return `${Math.round(share * 100)} %`;
}

function paragraph(segment) {
  const line = document.createElement("p");
  const margin = document.createElement("span");
  margin.className = "margin";
  margin.append(clock(segment.start), document.createElement("br"), ` ${percent(mean(segment.words))}`);
  margin.title = "When it was said, and how certain its words are";
  const words = document.createElement("span");
  words.className = "words";
  for (const word of segment.words) {
    const span = document.createElement("span");
    span.textContent = word.word;
    span.title = `${percent(word.confidence)} certain, ${clock(word.start)}`;
    if (word.confidence < UNSURE) span.className = "unsure";
    words.append(span, " ");
  }
  line.append(margin, words);
  return line;
}

function mean(words) {
  return words.length ? words.reduce((sum, word) => sum + word.confidence, 0) / words.length : 0;
}

// A segment as subtitles that can be read.
function cues(segment) {
  const result = [];
  for (const word of segment.words) {
    const cue = result.at(-1);
    const fits = cue && word.end - cue.start <= CUE_SECONDS
      && cue.text.length + 1 + word.word.length <= CUE_CHARACTERS;
    if (fits) Object.assign(cue, { end: word.end, text: `${cue.text} ${word.word}` });
    else result.push({ start: word.start, end: word.end, text: word.word });
  }
  return result;
}
