/** One recording drawn: its waveform, its spectrogram below, and a playhead over both. */

import { Peaks } from "../audio/sound.js";
import { Spectrum, palette } from "../audio/spectrum.js";
import { h, themeColor } from "../dom.js";

const SPECTRUM = ["spectrum-0", "spectrum-1", "spectrum-2", "spectrum-3", "spectrum-4"];

/** @type {Uint32Array | null} */
let table = null; // of the theme that is shown
addEventListener("themechange", () => (table = null));

function colors() {
  table ??= palette(SPECTRUM.map(themeColor));
  return table;
}

/** Draws into its `element`. A click or a drag calls `onseek` with a part of the length, 0 to 1. */
export class WaveView {
  /** @type {import("../audio/sound.js").Sound | null} */
  #sound = null;
  #peaks = new Peaks();
  #spectrum = new Spectrum();
  #scale = 1;
  #waits = false;
  onseek = (_part) => {};

  /** @param {{spectrum?: boolean}} [options] */
  constructor({ spectrum = true } = {}) {
    this.wave = h("canvas", { class: "wave" });
    this.spectrum = spectrum ? h("canvas", { class: "spectrum" }) : null;
    this.playhead = h("div", { class: "playhead" });
    this.element = h("div", { class: "picture", "aria-hidden": "true" }, this.wave, this.spectrum, this.playhead);
    this.element.addEventListener("pointerdown", (event) => this.#drag(event));
    // An observer of one page's elements and one listener; both go when nothing holds the element any more.
    new ResizeObserver(() => this.#later()).observe(this.wave);
    const repaint = () => {
      if (this.element.isConnected) this.#later(true);
      else removeEventListener("themechange", repaint);
    };
    addEventListener("themechange", repaint);
  }

  get loudest() {
    return this.#peaks.loudest;
  }

  /** Draw a recording, or what has come of it since the last call. @param {import("../audio/sound.js").Sound} sound */
  show(sound) {
    if (sound !== this.#sound) {
      this.#sound = sound;
      this.#peaks = new Peaks();
      this.#spectrum = new Spectrum();
    }
    this.#peaks.extend(sound);
    this.#later(true);
  }

  /** Draw with a factor, the same in everything that is compared, so that quiet looks quiet. */
  setScale(scale) {
    if (Math.abs(scale - this.#scale) < 1e-3) return;
    this.#scale = scale;
    this.#later();
  }

  /** Draw anew, in the color that it has now. */
  redraw() {
    this.#later();
  }

  /** Put the playhead at a part of the length, 0 to 1. */
  setPlayhead(part) {
    this.playhead.style.transform = `translateX(${(part * this.element.clientWidth).toFixed(1)}px)`;
  }

  #drag(event) {
    if (event.button !== 0) return;
    const move = ({ clientX }) => {
      const box = this.element.getBoundingClientRect();
      this.onseek(Math.max(0, Math.min(1, (clientX - box.left) / box.width)));
    };
    this.element.setPointerCapture(event.pointerId);
    this.element.addEventListener("pointermove", move);
    const up = () => this.element.removeEventListener("pointermove", move);
    this.element.addEventListener("pointerup", up, { once: true });
    this.element.addEventListener("pointercancel", up, { once: true });
    move(event);
  }

  /** Draw before the next frame, once. */
  #later(spectrum = false) {
    this.repaints ||= spectrum;
    if (this.#waits) return;
    this.#waits = true;
    requestAnimationFrame(() => {
      this.#waits = false;
      this.#drawWave();
      if (this.repaints) this.#drawSpectrum();
    });
  }

  #drawWave() {
    const canvas = this.wave;
    const ratio = devicePixelRatio || 1;
    const width = Math.round(canvas.clientWidth * ratio);
    const height = Math.round(canvas.clientHeight * ratio);
    if (!width || !height) return;
    Object.assign(canvas, { width, height });
    const context = canvas.getContext("2d");
    context.fillStyle = getComputedStyle(canvas).color;
    const { low, high, columns, ready } = this.#peaks;
    const gap = Math.max(1, Math.round(ratio));
    const bar = gap * 2;
    const middle = height / 2;
    for (let x = 0; x < width; x += bar + gap) {
      const from = Math.floor((x / width) * columns);
      const to = Math.min(ready, Math.max(from + 1, Math.floor(((x + bar + gap) / width) * columns)));
      let top = 0;
      let bottom = 0;
      for (let i = from; i < to; i++) {
        top = Math.max(top, high[i]);
        bottom = Math.min(bottom, low[i]);
      }
      if (from >= ready) break;
      const up = Math.max(gap / 2, Math.min(1, top * this.#scale) * middle);
      const down = Math.max(gap / 2, Math.min(1, -bottom * this.#scale) * middle);
      context.fillRect(x, middle - up, bar, up + down);
    }
  }

  /** Some columns a frame, so that eight spectrograms do not hold up the page. */
  #drawSpectrum() {
    this.repaints = false;
    if (!this.spectrum || !this.#sound) return;
    const more = this.#spectrum.extend(this.#sound, 60);
    this.#spectrum.paint(this.spectrum, colors());
    if (more) this.#later(true);
  }
}
