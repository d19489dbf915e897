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

  get txt() {
    return `${this.text}\n`;
  }

  get srt() {
    return this.segments
      .flatMap(cues)
      .map((cue, i) => `${i + 1}\n${clock(cue.start, ",")} --> ${clock(cue.end, ",")}\n${cue.text}\n`)
      .join("\n");
  }

  get vtt() {
    const all = this.segments.flatMap(cues).map((cue) => `${clock(cue.start, ".")} --> ${clock(cue.end, ".")}\n${cue.text}\n`);
    return ["WEBVTT\n", ...all].join("\n");
  }

  get json() {
    return `${JSON.stringify({ text: this.text, segments: this.segments }, null, 1)}\n`;
  }
}

// Seconds as 1:02, or with a `point` as subtitles want them: 00:01:02,000.
export function clock(seconds, point = "") {
  const total = Math.max(0, Math.round(seconds * 1000));
  const two = (number) => String(Math.floor(number)).padStart(2, "0");
  const [hours, minutes, rest] = [total / 3600000, (total / 60000) % 60, (total / 1000) % 60];
  if (point) {
    return `${two(hours)}:${two(minutes)}:${two(rest)}${point}${String(total % 1000).padStart(3, "0")}`;
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
  words.contentEditable = "plaintext-only";
  words.spellcheck = true;
  const write = () => words.replaceChildren(...segment.words.flatMap((word) => [spanOf(word), " "]));
  words.addEventListener("keydown", (event) => {
    if (event.key === "Enter") {
      event.preventDefault();
      words.blur();
    }
  });
  words.addEventListener("blur", () => {
    correct(segment, words.textContent);
    write();
  });
  write();
  line.append(margin, words);
  return line;
}

function spanOf(word) {
  const span = document.createElement("span");
  span.textContent = word.word;
  span.title = `${percent(word.confidence)}, ${clock(word.start)}`;
  if (word.confidence < UNSURE) span.className = "unsure";
  return span;
}

// Another text for a segment: the words that stay keep their times, new ones share the time between.
export function correct(segment, text) {
  const wanted = text.split(/\s+/).filter(Boolean);
  const old = segment.words;
  let before = 0;
  while (before < Math.min(old.length, wanted.length) && old[before].word === wanted[before]) before++;
  let after = 0;
  while (
    after < Math.min(old.length, wanted.length) - before
    && old[old.length - 1 - after].word === wanted[wanted.length - 1 - after]
  ) after++;
  const fresh = wanted.slice(before, wanted.length - after);
  const begin = old[before - 1]?.end ?? segment.start;
  const end = old[old.length - after]?.start ?? segment.end;
  const share = (end - begin) / (fresh.length || 1);
  segment.words = [
    ...old.slice(0, before),
    ...fresh.map((word, i) => ({ word, start: begin + i * share, end: begin + (i + 1) * share, confidence: 1 })),
    ...old.slice(old.length - after),
  ];
  segment.text = wanted.join(" ");
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
