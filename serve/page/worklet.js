// The microphone, on the browser's audio thread: any rate in, blocks of 16 kHz and 16 bits out.

export const RATE = 16000;
const BLOCK = RATE / 10; // samples: a tenth of a second
const ZEROS = 24; // of the filter's sinc, on each side
const PHASES = 512; // between two taps; what lies between two phases is interpolated

// Band-limited interpolation by a windowed sinc (J. O. Smith, "Digital Audio Resampling").
export class Resampler {
  constructor(from, to) {
    this.step = from / to;
    // Half the lower rate is what both can carry; the filter falls to nothing there.
    const cutoff = 0.94 * Math.min(1, to / from);
    this.reach = Math.ceil(ZEROS / cutoff);
    this.table = new Float32Array((this.reach + 1) * PHASES + 2);
    for (let i = 0; i < this.table.length; i++) {
      const x = i / PHASES;
      const edge = x / this.reach;
      const window = edge < 1 ? kaiser(Math.sqrt(1 - edge * edge)) : 0;
      const angle = Math.PI * x * cutoff;
      this.table[i] = cutoff * window * (i ? Math.sin(angle) / angle : 1);
    }
    this.held = new Float32Array(this.reach); // silence before the first sample
    this.position = this.reach; // in `held`, of the next sample to make
  }

  feed(samples) {
    const all = new Float32Array(this.held.length + samples.length);
    all.set(this.held);
    all.set(samples, this.held.length);
    const made = [];
    while (this.position + this.reach < all.length) {
      made.push(this.at(all, this.position));
      this.position += this.step;
    }
    const dropped = Math.max(0, Math.floor(this.position) - this.reach);
    this.held = all.slice(dropped);
    this.position -= dropped;
    return Float32Array.from(made);
  }

  at(all, position) {
    const middle = Math.floor(position);
    let sum = 0;
    for (let i = Math.max(0, middle - this.reach + 1); i <= middle + this.reach; i++) {
      const place = Math.abs(position - i) * PHASES;
      const index = Math.floor(place);
      const part = place - index;
      sum += all[i] * (this.table[index] * (1 - part) + this.table[index + 1] * part);
    }
    return sum;
  }
}

function kaiser(x) {
  const BETA = 9; // 90 dB of attenuation
  return bessel(BETA * x) / bessel(BETA);
}

function bessel(x) {
  let sum = 1;
  let term = 1;
  for (let k = 1; k < 40; k++) {
    term *= (x / 2 / k) ** 2;
    sum += term;
  }
  return sum;
}

class Microphone extends (globalThis.AudioWorkletProcessor ?? Object) {
  constructor() {
    super();
    this.resampler = new Resampler(sampleRate, RATE);
    this.block = new Int16Array(BLOCK);
    this.filled = 0;
    this.port.onmessage = () => this.hand(true);
  }

  process([channels]) {
    if (channels.length) {
      const mono = new Float32Array(channels[0].length);
      for (const channel of channels) {
        for (let i = 0; i < mono.length; i++) mono[i] += channel[i] / channels.length;
      }
      for (const sample of this.resampler.feed(mono)) {
        this.block[this.filled++] = Math.max(-1, Math.min(1, sample)) * 32767;
        if (this.filled === BLOCK) this.hand(false);
      }
    }
    return true;
  }

  hand(last) {
    const block = this.block.slice(0, this.filled);
    this.filled = 0;
    this.port.postMessage({ block, last }, [block.buffer]);
  }
}

globalThis.registerProcessor?.("microphone", Microphone);
