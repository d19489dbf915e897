// The page: a button, the sound as waves and as a spectrum, a transcript.

import { Microphone, devices } from "./microphone.js";
import { KeyNeeded, Live, readiness, transcribe, useKey } from "./server.js";
import { Spectrum } from "./spectrum.js";
import { Transcript, clock, percent } from "./transcript.js";
import { Wave } from "./wave.js";
import { nextLanguage, say, translate } from "./words.js";
import { RATE } from "./worklet.js";

const $ = (id) => document.getElementById(id);
const LOUD = -1; // dB of full scale: samples are cut off above
const QUIET = -45; // of the loudest sample in three seconds
const FORMATS = { txt: "text/plain", srt: "application/x-subrip", vtt: "text/vtt", json: "application/json" };
const wave = new Wave($("wave"));
const spectrum = new Spectrum($("spectrum"));
const peaks = []; // of the last three seconds
const transcript = new Transcript($("finals"), $("partial"));
let microphone = null;
let live = null;
let work = null; // the recording that is being transcribed

// A text that follows the language of the page.
function write(id, text) {
  $(id).dataset.say = text;
  $(id).textContent = say(text);
}

async function listDevices() {
  const chosen = $("device").value;
  const options = (await devices()).map(({ deviceId, label }) => new Option(label, deviceId));
  $("device").replaceChildren($("device").options[0], ...options);
  $("device").value = options.some((option) => option.value === chosen) ? chosen : "";
}

function showLevel(block) {
  let peak = 0;
  for (const sample of block) peak = Math.max(peak, Math.abs(sample));
  const level = 20 * Math.log10(peak / 32768 + 1e-6);
  peaks.push(level);
  peaks.splice(0, peaks.length - 30);
  $("level").value = level;
  const most = Math.max(...peaks);
  write("level-note", most > LOUD ? "Too loud" : most < QUIET && peaks.length === 30 ? "Too quiet" : "");
}

function setStatus(state, text) {
  $("status").dataset.state = state;
  write("status-text", text);
}

function warn(error) {
  $("alert").hidden = !error;
  $("alert").textContent = error?.message ?? "";
  if (error instanceof KeyNeeded) {
    $("key-form").hidden = false;
    $("key").focus();
  }
}

function refresh() {
  const empty = transcript.segments.length === 0;
  for (const id of ["copy", "clear", ...Object.keys(FORMATS)]) $(id).disabled = empty;
  $("correct-hint").hidden = empty;
  $("device").disabled = live !== null;
  $("hint").hidden = !empty || live !== null || $("partial").textContent !== "";
  $("confidence").textContent = empty ? "–" : percent(transcript.confidence);
  $("record").disabled = work !== null;
  $("file").disabled = live !== null || work !== null;
}

async function checkServer() {
  try {
    const { model } = await readiness();
    $("model").textContent = model;
    setStatus("ready", "Ready");
  } catch (error) {
    setStatus("wrong", error.message);
    setTimeout(checkServer, 2000);
  }
}

// When each second of sound was spoken, to tell how long its words took.
class Clock {
  constructor() {
    this.heard = 0;
    this.marks = [];
  }

  add(seconds) {
    this.heard += seconds;
    this.marks.push([this.heard, performance.now()]);
    if (this.marks.length > 600) this.marks.shift();
  }

  since(seconds) {
    const mark = this.marks.find(([heard]) => heard >= seconds - 1e-6);
    return mark ? performance.now() - mark[1] : null;
  }
}

async function start() {
  warn(null);
  $("record").disabled = true;
  const time = new Clock();
  spectrum.clear();
  const waiting = []; // spoken while the connection opens
  try {
    microphone = await Microphone.open((block, seconds) => {
      time.add(seconds);
      wave.add(block, RATE);
      spectrum.add(block);
      showLevel(block);
      $("clock").textContent = clock(time.heard);
      if (live) live.send(block);
      else waiting.push(block);
    }, $("device").value);
    await listDevices();
    const { label, channels, rate } = microphone;
    $("device-name").textContent = `${label} · ${rate / 1000} kHz · ${channels}`;
    write("channels", channels > 1 ? "channels, mixed" : "channel");
    transcript.begin();
    live = await Live.open(RATE, (event) => hear(event, time));
    for (const block of waiting) live.send(block);
    setStatus("live", "Listening");
    $("record").setAttribute("aria-pressed", "true");
    write("record-label", "Stop");
    live.over.then(over);
  } catch (error) {
    await silence();
    warn(error);
  }
  refresh();
}

async function stop() {
  $("record").disabled = true;
  setStatus("live", "The last words …");
  await silence();
  await live?.finish();
}

async function silence() {
  const open = microphone;
  microphone = null;
  await open?.close();
}

async function over(error) {
  live = null;
  await silence();
  $("record").setAttribute("aria-pressed", "false");
  write("record-label", "Speak");
  transcript.show("");
  setStatus("ready", "Ready");
  warn(error);
  refresh();
}

function hear(event, time) {
  if ("real_time_factor" in event) $("factor").textContent = event.real_time_factor.toFixed(3);
  if (event.spikes) spectrum.mark(event.spikes);
  if (event.type === "partial") {
    transcript.show(event.text);
    const latency = time.since(event.end);
    if (latency !== null) $("latency").textContent = `${Math.round(latency)} ms`;
  } else if (event.type === "final") {
    transcript.add(event);
  }
  refresh();
}

async function takeFile(file) {
  if (!file || live || work) return;
  warn(null);
  work = new AbortController();
  refresh();
  $("progress-row").hidden = false;
  try {
    const begin = performance.now();
    const { segments, duration } = await transcribe(file, showProgress, work.signal);
    transcript.begin();
    segments.forEach((segment) => transcript.add(segment));
    const seconds = (performance.now() - begin) / 1000;
    $("clock").textContent = clock(duration);
    $("latency").textContent = `${seconds.toFixed(1)} s`;
    $("factor").textContent = duration ? (seconds / duration).toFixed(3) : "–";
    if (!segments.length) warn(new Error(`No speech was found in ${file.name}.`));
  } catch (error) {
    if (error.name !== "AbortError") warn(error);
  }
  work = null;
  $("progress-row").hidden = true;
  $("file").value = "";
  refresh();

  function showProgress(share) {
    $("progress-label").textContent = share === null ? `Listening to ${file.name}` : `Sending ${percent(share)}`;
    if (share === null) $("progress").removeAttribute("value");
    else $("progress").value = share;
  }
}

async function copy() {
  try {
    await navigator.clipboard.writeText(transcript.text);
  } catch { // not on https: the old way
    const area = document.createElement("textarea");
    area.value = transcript.text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  write("copy", "Copied");
  setTimeout(() => write("copy", "Copy"), 1500);
}

function save(format) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([transcript[format]], { type: FORMATS[format] }));
  link.download = `transcript.${format}`;
  link.click();
  URL.revokeObjectURL(link.href);
}

$("record").addEventListener("click", () => (live ? stop() : start()));
$("file").addEventListener("change", () => takeFile($("file").files[0]));
$("cancel").addEventListener("click", () => work?.abort());
$("copy").addEventListener("click", copy);
for (const format of Object.keys(FORMATS)) $(format).addEventListener("click", () => save(format));
$("language").addEventListener("click", nextLanguage);
$("clear").addEventListener("click", () => {
  transcript.clear();
  if (!live) {
    wave.clear();
    spectrum.clear();
  }
  refresh();
});
$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  useKey($("key").value);
  $("key-form").hidden = true;
  warn(null);
  $("record").focus();
});
for (const kind of ["dragenter", "dragover"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    document.body.classList.add("dragging");
  });
}
for (const kind of ["dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    document.body.classList.remove("dragging");
  });
}
document.addEventListener("drop", (event) => takeFile(event.dataTransfer.files[0]));

translate();
refresh();
listDevices();
checkServer();
