// The page: a button, a waveform, a transcript.

import { Microphone } from "./microphone.js";
import { KeyNeeded, Live, readiness, transcribe, useKey } from "./server.js";
import { Transcript, clock, percent } from "./transcript.js";
import { Wave } from "./wave.js";
import { RATE } from "./worklet.js";

const $ = (id) => document.getElementById(id);
const wave = new Wave($("wave"));
const transcript = new Transcript($("finals"), $("partial"));
let microphone = null;
let live = null;
let work = null; // the recording that is being transcribed

function setStatus(state, text) {
  $("status").dataset.state = state;
  $("status-text").textContent = text;
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
  for (const id of ["copy", "srt", "clear"]) $(id).disabled = empty;
  $("hint").hidden = !empty || live !== null || $("partial").textContent !== "";
  $("confidence").textContent = empty ? "–" : percent(transcript.confidence);
  $("record").disabled = work !== null;
  $("file").disabled = live !== null || work !== null;
}

async function checkServer() {
  try {
    const { model } = await readiness();
    $("model").textContent = `Model: ${model}`;
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
  const waiting = []; // spoken while the connection opens
  try {
    microphone = await Microphone.open((block, seconds) => {
      time.add(seconds);
      wave.add(block, RATE);
      $("clock").textContent = clock(time.heard);
      if (live) live.send(block);
      else waiting.push(block);
    });
    transcript.begin();
    live = await Live.open(RATE, (event) => hear(event, time));
    for (const block of waiting) live.send(block);
    setStatus("live", "Listening");
    $("record").setAttribute("aria-pressed", "true");
    $("record-label").textContent = "Stop";
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
  $("record-label").textContent = "Speak";
  transcript.show("");
  setStatus("ready", "Ready");
  warn(error);
  refresh();
}

function hear(event, time) {
  if ("real_time_factor" in event) $("factor").textContent = event.real_time_factor.toFixed(3);
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
  $("copy").textContent = "Copied";
  setTimeout(() => { $("copy").textContent = "Copy"; }, 1500);
}

function saveSrt() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([transcript.srt], { type: "application/x-subrip" }));
  link.download = "transcript.srt";
  link.click();
  URL.revokeObjectURL(link.href);
}

$("record").addEventListener("click", () => (live ? stop() : start()));
$("file").addEventListener("change", () => takeFile($("file").files[0]));
$("cancel").addEventListener("click", () => work?.abort());
$("copy").addEventListener("click", copy);
$("srt").addEventListener("click", saveSrt);
$("clear").addEventListener("click", () => {
  transcript.clear();
  if (!live) wave.clear();
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

refresh();
checkServer();
