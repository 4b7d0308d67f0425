/** Spectrograms: short Fourier transforms, summed into rows of equal musical width. */

const SIZE = 2048;
const LOW = 50; // Hz, the lowest row's lower edge
const HIGH = 14000;
const FLOOR = -92; // dB below a sine of full scale: the darkest color
const CEILING = -22;

const WINDOW = Float32Array.from({ length: SIZE }, (_, i) => 0.5 - 0.5 * Math.cos((2 * Math.PI * i) / SIZE));
const COS = Float32Array.from({ length: SIZE / 2 }, (_, i) => Math.cos((2 * Math.PI * i) / SIZE));
const SIN = Float32Array.from({ length: SIZE / 2 }, (_, i) => -Math.sin((2 * Math.PI * i) / SIZE));
const REVERSED = new Uint16Array(SIZE);
for (let i = 1; i < SIZE; i++) REVERSED[i] = (REVERSED[i >> 1] >> 1) | (i & 1 ? SIZE >> 1 : 0);

/** Transform `re` and `im` in place; both are in bit-reversed order. */
function fft(re, im) {
  for (let half = 1; half < SIZE; half *= 2) {
    const step = SIZE / (2 * half);
    for (let start = 0; start < SIZE; start += 2 * half) {
      for (let k = 0, angle = 0; k < half; k++, angle += step) {
        const a = start + k;
        const b = a + half;
        const x = re[b] * COS[angle] - im[b] * SIN[angle];
        const y = re[b] * SIN[angle] + im[b] * COS[angle];
        re[b] = re[a] - x;
        im[b] = im[a] - y;
        re[a] += x;
        im[a] += y;
      }
    }
  }
}

/** Loudness by time and pitch, as bytes from 0 (silent) to 255; grows with its recording. */
export class Spectrum {
  constructor(columns = 480, rows = 88) {
    this.columns = columns;
    this.rows = rows;
    this.values = new Uint8Array(columns * rows); // column after column, low rows first
    this.ready = 0;
    this.re = new Float32Array(SIZE);
    this.im = new Float32Array(SIZE);
  }

  /**
   * Take what has come since the last call, at most `most` columns of it.
   * @param {import("./sound.js").Sound} sound @returns {boolean} whether more could be taken
   */
  extend(sound, most = Infinity) {
    const total = sound.samples.length;
    for (let taken = 0; this.ready < this.columns; taken++) {
      const center = Math.floor(((this.ready + 0.5) * total) / this.columns);
      if (center + SIZE / 2 > sound.available && sound.available < total) return false;
      if (taken === most) return true;
      this.#column(sound, center - SIZE / 2);
      this.ready++;
    }
    return false;
  }

  #column({ samples, rate }, from) {
    for (let i = 0; i < SIZE; i++) this.re[REVERSED[i]] = (samples[from + i] ?? 0) * WINDOW[i];
    this.im.fill(0);
    fft(this.re, this.im);
    const power = (bin) => this.re[bin] ** 2 + this.im[bin] ** 2;
    for (let row = 0; row < this.rows; row++) {
      const edge = (r) => (LOW * (HIGH / LOW) ** (r / this.rows) * SIZE) / rate;
      const low = edge(row);
      const high = Math.min(edge(row + 1), SIZE / 2 - 1);
      const first = Math.floor(low);
      // Between two bins where rows are narrower than bins, the loudest bin where they are wider.
      let loudest = power(first) + (power(first + 1) - power(first)) * (low - first);
      for (let bin = first + 1; bin <= high; bin++) loudest = Math.max(loudest, power(bin));
      const decibels = 10 * Math.log10(loudest / (SIZE / 4) ** 2 + 1e-12);
      const value = (255 * (decibels - FLOOR)) / (CEILING - FLOOR);
      this.values[this.ready * this.rows + row] = Math.max(0, Math.min(255, value));
    }
  }

  /**
   * Paint it, one pixel a value, high pitches on top.
   * @param {HTMLCanvasElement} canvas
   * @param {Uint32Array} table what `palette` makes
   */
  paint(canvas, table) {
    if (canvas.width !== this.columns || canvas.height !== this.rows) {
      canvas.width = this.columns;
      canvas.height = this.rows;
    }
    const context = canvas.getContext("2d");
    const image = context.createImageData(this.columns, this.rows);
    const pixels = new Uint32Array(image.data.buffer);
    for (let column = 0; column < this.ready; column++) {
      for (let row = 0; row < this.rows; row++) {
        pixels[(this.rows - 1 - row) * this.columns + column] = table[this.values[column * this.rows + row]];
      }
    }
    context.putImageData(image, 0, 0);
  }
}

/**
 * Return 256 colors between those given, as little-endian RGBA.
 * @param {[number, number, number][]} colors from silent to loud
 */
export function palette(colors) {
  return Uint32Array.from({ length: 256 }, (_, i) => {
    const at = (i / 255) * (colors.length - 1);
    const from = Math.min(Math.floor(at), colors.length - 2);
    const [r, g, b] = colors[from].map((c, k) => Math.round(c + (colors[from + 1][k] - c) * (at - from)));
    return ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0;
  });
}
