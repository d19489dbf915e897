// Talking to the server: live by WebSocket, recordings by HTTP.

const FAILED = "The server cannot be reached. Is it still running?";
const CODES = {
  1001: "The server is shutting down.",
  1009: "A message was too big for the server.",
  1011: "The server failed. What was understood until then is below.",
  1013: "The server has too much to do. Try again in a moment.",
};

let key = sessionStorage.getItem("key") ?? "";

export class KeyNeeded extends Error {}

export function useKey(value) {
  key = value;
  sessionStorage.setItem("key", value);
}

// What the server says about itself; throws an Error that can be shown.
export async function readiness() {
  const answer = await fetch("readyz").catch(() => { throw new Error(FAILED); });
  const body = await answer.json();
  if (!answer.ok) throw new Error(`The server says: ${body.error.message}.`);
  return body;
}

export class Live {
  // `told` gets every event of the protocol; the stream is open when the promise resolves.
  static open(rate, told) {
    const live = new Live();
    const address = new URL(`ws?sample_rate=${rate}&spikes=true`, location.href);
    address.protocol = address.protocol.replace("http", "ws");
    const socket = new WebSocket(address, key ? ["token", key] : []);
    live.socket = socket;
    return new Promise((resolve, reject) => {
      live.over = new Promise((end) => {
        socket.onclose = async ({ code, reason }) => {
          let error = null;
          if (code === 1008 && reason.includes("API key")) error = new KeyNeeded("This server wants an API key.");
          else if (code === 1006) error = await readiness().then(() => new Error("The connection broke off."), (e) => e);
          else if (code !== 1000) error = new Error(CODES[code] ?? `The server ended the stream: ${reason}.`);
          if (error) reject(error); // which does nothing once the stream is open
          end(error);
        };
      });
      socket.onmessage = ({ data }) => {
        const event = JSON.parse(data);
        if (event.type === "ready") resolve(live);
        told(event);
      };
    });
  }

  send(block) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(block);
  }

  // Resolves, to an Error or null, when the last words have come.
  finish() {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send('{"type": "finish"}');
    return this.over;
  }
}

// The segments of a recording. `progress` gets the share that is sent, then null: it is listened to.
export function transcribe(file, progress, signal) {
  const form = new FormData();
  form.append("model", "default");
  form.append("response_format", "verbose_json");
  for (const granularity of ["segment", "word"]) form.append("timestamp_granularities[]", granularity);
  form.append("include[]", "logprobs");
  form.append("file", file); // last, as clients of this interface do
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", "v1/audio/transcriptions");
    if (key) request.setRequestHeader("Authorization", `Bearer ${key}`);
    request.responseType = "json";
    request.upload.onprogress = (event) => progress(event.loaded / event.total);
    request.upload.onload = () => progress(null);
    request.onerror = () => reject(new Error(FAILED));
    request.onabort = () => reject(new DOMException("cancelled", "AbortError"));
    request.onload = () => {
      const { status, response } = request;
      if (status === 200) resolve(parts(response));
      else if (status === 401) reject(new KeyNeeded("This server wants an API key."));
      else reject(new Error(response?.error?.message ?? `The server answered ${status}.`));
    };
    signal.addEventListener("abort", () => request.abort());
    request.send(form);
  });
}

// Each segment with its words, and each word with its confidence.
function parts({ segments, words, logprobs, duration }) {
  const rest = words.map((word, i) => ({ ...word, confidence: Math.exp(logprobs[i].logprob) }));
  const found = segments.map((segment) => ({
    ...segment,
    words: rest.splice(0, segment.text.split(" ").length),
  }));
  return { segments: found, duration };
}
