// Tables sort by a click on their head; utterances by a menu; spectrograms are drawn when opened.
for (const head of document.querySelectorAll("th[data-sort]"))
  head.addEventListener("click", () => {
    const body = head.closest("table").tBodies[0], place = [...head.parentNode.children].indexOf(head);
    const up = head.dataset.up = head.dataset.up === "1" ? "" : "1";
    const value = row => { const c = row.cells[place]; return c.dataset.v ?? c.textContent; };
    [...body.rows].sort((a, b) => {
      const x = value(a), y = value(b), d = Number(x) - Number(y);
      return (isNaN(d) ? x.localeCompare(y) : d) * (up ? 1 : -1);
    }).forEach(row => body.append(row));
  });
const list = document.querySelector("#utterances"), order = document.querySelector("#order"), find = document.querySelector("#find");
function arrange() {
  const [key, sign] = order.value.split(":"), words = find.value.toLowerCase();
  [...list.children].sort((a, b) => sign * (key === "name" ? a.dataset.name.localeCompare(b.dataset.name) : a.dataset[key] - b.dataset[key])).forEach(u => list.append(u));
  for (const u of list.children) u.hidden = !u.textContent.toLowerCase().includes(words);
}
order?.addEventListener("change", arrange); find?.addEventListener("input", arrange);
function draw(details) {
  const canvas = details.querySelector("canvas");
  if (!canvas || canvas.dataset.drawn) return;
  canvas.dataset.drawn = 1;
  const { bands, rows, image, spikes, seconds } = JSON.parse(details.querySelector("script").textContent);
  const ratio = devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight, top = 48;
  canvas.width = width * ratio; canvas.height = height * ratio;
  const pen = canvas.getContext("2d"); pen.scale(ratio, ratio);
  const raw = atob(image), small = new OffscreenCanvas(rows, bands), ink = small.getContext("2d"), pixels = ink.createImageData(rows, bands);
  for (let t = 0; t < rows; t++) for (let f = 0; f < bands; f++) {
    const v = raw.charCodeAt(t * bands + f) / 255, at = 4 * ((bands - 1 - f) * rows + t);
    pixels.data[at] = 255 * Math.min(1, 1.6 * v); pixels.data[at + 1] = 255 * v * v; pixels.data[at + 2] = 255 * (0.35 * Math.sin(Math.PI * v) + 0.2 * v); pixels.data[at + 3] = 255;
  }
  ink.putImageData(pixels, 0, 0);
  pen.drawImage(small, 0, top, width, height - top - 16);
  const colour = getComputedStyle(document.body).color;
  pen.font = "12px system-ui, sans-serif"; pen.textAlign = "center";
  const ends = [0, 0, 0];  // where the last label of each line of labels ends
  for (const [time, symbol, p] of spikes) {
    const x = width * time / seconds;
    pen.strokeStyle = `rgba(255,255,255,${p})`; pen.beginPath(); pen.moveTo(x, top); pen.lineTo(x, height - 16); pen.stroke();
    const half = pen.measureText(symbol).width / 2 + 1, line = ends.findIndex(end => end < x - half);
    if (line < 0) continue;
    ends[line] = x + half;
    pen.fillStyle = colour; pen.fillText(symbol, x, top - 6 - 14 * line);
  }
  pen.fillStyle = colour;
  for (let s = 0; s <= seconds; s += Math.max(1, Math.ceil(seconds / 10))) pen.fillText(s + " s", Math.max(10, Math.min(width - 12, width * s / seconds)), height - 3);
}
for (const details of document.querySelectorAll(".u details")) details.addEventListener("toggle", () => draw(details));
for (const details of document.querySelectorAll(".u details[open]")) draw(details);
