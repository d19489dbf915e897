// The last seconds of sound as a spectrum, with the spikes of the network below: what CTC is.

const HOP = 320; // samples: 50 columns a second
const SIZE = 512; // samples of a window
const BANDS = 64; // rows
const SECONDS = 8; // that are shown
const COLUMNS = (SECONDS * 16000) / HOP;
const FLOOR = -80; // dB of full scale: nothing
const SPIKES = 0.3; // of the height, for the spikes

export class Spectrum {
  constructor(canvas) {
    this.canvas = canvas;
    this.window = Float32Array.from({ length: SIZE }, (_, i) => 0.5 - 0.5 * Math.cos((2 * Math.PI * i) / SIZE));
    this.edges = Array.from({ length: BANDS + 1 }, (_, i) => melBin(i / BANDS));
    this.clear();
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  clear() {
    this.samples = new Float32Array(0);
    this.columns = []; // of bands, 0 to 1
    this.spikes = [];
    this.seconds = 0; // at the right edge
    this.draw();
  }

  // 16-bit samples at 16 kHz.
  add(block) {
    const all = new Float32Array(this.samples.length + block.length);
    all.set(this.samples);
    for (let i = 0; i < block.length; i++) all[this.samples.length + i] = block[i] / 32768;
    let first = 0;
    for (; first + SIZE <= all.length; first += HOP) this.columns.push(this.bands(all, first));
    this.samples = all.slice(first);
    this.columns.splice(0, this.columns.length - COLUMNS);
    this.seconds += block.length / 16000;
    requestAnimationFrame(() => this.draw());
  }

  // What the network saw: { time, symbol, probability }.
  mark(spikes) {
    this.spikes.push(...spikes);
    this.spikes.splice(0, this.spikes.length - 400);
  }

  bands(samples, first) {
    const re = new Float32Array(SIZE);
    const im = new Float32Array(SIZE);
    for (let i = 0; i < SIZE; i++) re[i] = samples[first + i] * this.window[i];
    transform(re, im);
    return Float32Array.from({ length: BANDS }, (_, band) => {
      const begin = Math.floor(this.edges[band]);
      const end = Math.max(begin + 1, Math.floor(this.edges[band + 1]));
      let power = 0;
      for (let k = begin; k < end; k++) power = Math.max(power, re[k] ** 2 + im[k] ** 2);
      const level = 10 * Math.log10(power / (SIZE / 4) ** 2 + 1e-12);
      return Math.min(1, Math.max(0, 1 - level / FLOOR));
    });
  }

  draw() {
    const { canvas } = this;
    const scale = window.devicePixelRatio || 1;
    const width = canvas.clientWidth;
    const height = canvas.clientHeight;
    if (!width || !height) return;
    canvas.width = width * scale;
    canvas.height = height * scale;
    const context = canvas.getContext("2d");
    context.scale(scale, scale);
    const style = getComputedStyle(canvas);
    const middle = height * (1 - SPIKES);
    const step = width / COLUMNS;
    context.fillStyle = style.color;
    this.columns.forEach((bands, i) => {
      const x = width - (this.columns.length - i) * step;
      bands.forEach((level, band) => {
        if (level < 0.08) return;
        context.globalAlpha = level * level;
        context.fillRect(x, middle * (1 - (band + 1) / BANDS), step + 0.5, middle / BANDS + 0.5);
      });
    });
    context.globalAlpha = 0.3;
    context.fillRect(0, height - 1, width, 1);
    context.font = `11px ${style.fontFamily}`;
    context.textAlign = "center";
    for (const { time, symbol, probability } of this.spikes) {
      const x = width - (this.seconds - time) * (width / SECONDS);
      if (x < 0) continue;
      const tall = (height - middle - 14) * probability;
      context.globalAlpha = 0.9;
      context.beginPath();
      context.moveTo(x - 2.5, height - 1);
      context.lineTo(x, height - 1 - tall);
      context.lineTo(x + 2.5, height - 1);
      context.fill();
      context.fillText(symbol, x, height - tall - 4);
    }
    context.globalAlpha = 1;
  }
}

// The bin of the transform at a share of the mel scale, from 60 Hz to 8 kHz.
function melBin(share) {
  const mel = (hertz) => 2595 * Math.log10(1 + hertz / 700);
  const hertz = 700 * (10 ** ((mel(60) + share * (mel(8000) - mel(60))) / 2595) - 1);
  return (hertz * SIZE) / 16000;
}

// The fast Fourier transform in place (Cooley & Tukey, radix 2).
function transform(re, im) {
  const n = re.length;
  for (let i = 1, j = 0; i < n; i++) {
    let bit = n >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i < j) [re[i], re[j]] = [re[j], re[i]];
  }
  for (let size = 2; size <= n; size *= 2) {
    const half = size / 2;
    for (let k = 0; k < half; k++) {
      const c = Math.cos((2 * Math.PI * k) / size);
      const s = -Math.sin((2 * Math.PI * k) / size);
      for (let i = k; i < n; i += size) {
        const j = i + half;
        const x = re[j] * c - im[j] * s;
        const y = re[j] * s + im[j] * c;
        re[j] = re[i] - x;
        im[j] = im[i] - y;
        re[i] += x;
        im[i] += y;
      }
    }
  }
}
