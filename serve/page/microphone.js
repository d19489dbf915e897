// Opening the microphone, and saying plainly why it cannot be opened.

import { RATE } from "./worklet.js";

const REASONS = {
  NotAllowedError:
    "The microphone is blocked. Allow it for this page (the sign beside the address), then press Speak again.",
  NotFoundError: "No microphone was found. Connect one, or choose a recording below.",
  NotReadableError: "The microphone is in use by another program. Close that, then press Speak again.",
};

// The microphones that have a name: browsers tell it once one of them may be used.
export async function devices() {
  const all = (await navigator.mediaDevices?.enumerateDevices?.()) ?? [];
  return all.filter(({ kind, label, deviceId }) => kind === "audioinput" && label && deviceId !== "default");
}

export class Microphone {
  // `hear` gets blocks of 16-bit samples at RATE, as they are spoken; `device` is the id of one, or "".
  static async open(hear, device = "") {
    if (!navigator.mediaDevices?.getUserMedia) {
      throw new Error(
        "Browsers open the microphone to https:// and localhost only. Reach this server that way, or choose a recording below.",
      );
    }
    const microphone = new Microphone();
    try {
      microphone.stream = await navigator.mediaDevices.getUserMedia({
        // What improves a call for people's ears removes what a recogniser was trained on.
        audio: {
          echoCancellation: false,
          noiseSuppression: false,
          autoGainControl: false,
          ...(device ? { deviceId: { exact: device } } : {}),
        },
      });
    } catch (error) {
      throw new Error(REASONS[error.name] ?? `The microphone cannot be opened: ${error.message}`);
    }
    const [track] = microphone.stream.getAudioTracks();
    microphone.label = track.label;
    microphone.channels = track.getSettings().channelCount ?? 1;
    // The device's own rate: the worklet turns it into ours.
    microphone.context = new AudioContext();
    microphone.rate = microphone.context.sampleRate;
    await microphone.context.resume();
    await microphone.context.audioWorklet.addModule(new URL("worklet.js", import.meta.url));
    const source = microphone.context.createMediaStreamSource(microphone.stream);
    microphone.node = new AudioWorkletNode(microphone.context, "microphone", { numberOfOutputs: 0 });
    microphone.node.port.onmessage = ({ data }) => {
      if (data.block.length) hear(data.block, data.block.length / RATE);
      if (data.last) microphone.ended();
    };
    source.connect(microphone.node);
    return microphone;
  }

  // Resolves when the last sample has been handed over.
  async close() {
    const last = new Promise((resolve) => { this.ended = resolve; });
    this.node.port.postMessage("last");
    await last;
    for (const track of this.stream.getTracks()) track.stop();
    await this.context.close();
  }
}
