// The last seconds of sound as bars.

const BARS_A_SECOND = 20;
const BAR = 3; // pixels, and as many between two

export class Wave {
  constructor(canvas) {
    this.canvas = canvas;
    this.levels = [];
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  add(samples, rate) {
    const size = Math.floor(rate / BARS_A_SECOND);
    for (let first = 0; first + size <= samples.length; first += size) {
      let peak = 0;
      for (let i = first; i < first + size; i++) peak = Math.max(peak, Math.abs(samples[i]));
      // Decibels look as loud as they sound: -54 dB is nothing, 0 dB the full height.
      this.levels.push(Math.max(0, 1 + (20 * Math.log10(peak / 32768 + 1e-6)) / 54));
    }
    this.levels.splice(0, this.levels.length - 2000);
    requestAnimationFrame(() => this.draw());
  }

  clear() {
    this.levels = [];
    this.draw();
  }

  draw() {
    const { canvas } = this;
    const scale = window.devicePixelRatio || 1;
    const width = canvas.clientWidth;
    const height = canvas.clientHeight;
    canvas.width = width * scale;
    canvas.height = height * scale;
    const context = canvas.getContext("2d");
    context.scale(scale, scale);
    context.fillStyle = getComputedStyle(canvas).color;
    const count = Math.floor(width / (2 * BAR));
    const shown = this.levels.slice(-count);
    for (let i = 0; i < count; i++) {
      const level = shown[i - (count - shown.length)];
      const tall = Math.max(2, (level ?? 0) * height * 0.94);
      // What is older fades away.
      context.globalAlpha = level === undefined ? 0.14 : 0.25 + (0.75 * i) / count;
      context.beginPath();
      context.roundRect(i * 2 * BAR + BAR / 2, (height - tall) / 2, BAR, tall, BAR / 2);
      context.fill();
    }
  }
}
