/** The clip's waveform with the part that is edited: dragged over the picture, or moved by two handles. */

import { clock, h } from "../dom.js";
import { WaveView } from "./wave.js";

const LEAST = 0.1; // s

/** Fires "change" when the region does, and "seek" with seconds where the picture was clicked. */
export class RegionView extends EventTarget {
  from = 0;
  to = 0;
  #seconds = 0;
  #longest = Infinity;

  /** @param {HTMLElement} element */
  constructor(element) {
    super();
    this.view = new WaveView({ spectrum: false });
    this.element = this.view.element;
    this.element.removeAttribute("aria-hidden");
    this.before = h("div", { class: "outside" });
    this.after = h("div", { class: "outside" });
    this.start = this.#handle("Start of the region", (seconds) =>
      this.set(Math.min(seconds, this.to - LEAST), this.to),
    );
    this.end = this.#handle("End of the region", (seconds) =>
      this.set(this.from, Math.max(seconds, this.from + LEAST)),
    );
    this.element.append(this.before, this.after, this.start, this.end);
    this.element.addEventListener("pointerdown", (event) => this.#select(event), { capture: true });
    element.append(this.element);
  }

  /**
   * Show a clip, all of it chosen, or as much as may be.
   * @param {import("../audio/sound.js").Sound} sound @param {number} longest seconds that may be edited
   */
  show(sound, longest) {
    this.#seconds = sound.seconds;
    this.#longest = longest;
    this.view.show(sound);
    this.view.setScale(1 / Math.max(this.view.loudest, 0.05));
    this.whole();
  }

  /** Choose all of it, or as much from the beginning as may be. */
  whole() {
    this.set(0, Math.min(this.#seconds, this.#longest));
  }

  /** Choose a part, in seconds. Where that is too long, the side that was moved takes the other one along. */
  set(from, to) {
    const endMoved = from === this.from && to !== this.to;
    this.from = Math.max(0, Math.min(from, this.#seconds - LEAST));
    this.to = Math.min(this.#seconds, Math.max(to, this.from + LEAST));
    if (this.to - this.from > this.#longest) {
      if (endMoved) this.from = this.to - this.#longest;
      else this.to = this.from + this.#longest;
    }
    this.#draw();
    this.dispatchEvent(new Event("change"));
  }

  get isWhole() {
    return this.from === 0 && this.to === this.#seconds;
  }

  setPosition(seconds) {
    this.view.setPlayhead(this.#seconds ? seconds / this.#seconds : 0);
  }

  #draw() {
    const percent = (seconds) => `${(100 * seconds) / (this.#seconds || 1)}%`;
    this.before.style.left = "0";
    this.before.style.width = percent(this.from);
    this.after.style.left = percent(this.to);
    this.after.style.right = "0";
    for (const [handle, value] of [
      [this.start, this.from],
      [this.end, this.to],
    ]) {
      handle.style.left = percent(value);
      handle.setAttribute("aria-valuemin", "0");
      handle.setAttribute("aria-valuemax", this.#seconds.toFixed(1));
      handle.setAttribute("aria-valuenow", value.toFixed(1));
      handle.setAttribute("aria-valuetext", clock(value));
    }
  }

  /** @param {string} label @param {(seconds: number) => void} move */
  #handle(label, move) {
    const handle = h("div", {
      class: "handle",
      role: "slider",
      tabindex: "0",
      "aria-label": label,
      "aria-valuenow": "0",
    });
    handle.addEventListener("keydown", (event) => {
      const now = Number(handle === this.start ? this.from : this.to);
      const step = event.shiftKey ? 1 : 0.1;
      const steps = { ArrowLeft: -step, ArrowDown: -step, ArrowRight: step, ArrowUp: step, PageDown: -5, PageUp: 5 };
      const ends = { Home: 0, End: this.#seconds };
      const to = event.key in ends ? ends[event.key] : now + steps[event.key];
      if (Number.isNaN(to)) return;
      event.preventDefault();
      event.stopPropagation();
      move(to);
    });
    handle.move = move;
    return handle;
  }

  /** A drag of a handle moves it; a drag anywhere else chooses anew; a click goes there. */
  #select(event) {
    if (event.button !== 0 || !this.#seconds) return;
    event.stopPropagation();
    event.preventDefault();
    const box = this.element.getBoundingClientRect();
    const at = ({ clientX }) => Math.max(0, Math.min(1, (clientX - box.left) / box.width)) * this.#seconds;
    const first = at(event);
    const handle = [this.start, this.end].find((other) => other === event.target);
    let dragged = Boolean(handle);
    handle?.focus();
    const move = (moved) => {
      if (handle) return handle.move(at(moved));
      dragged ||= Math.abs(moved.clientX - event.clientX) > 4;
      if (dragged) this.set(Math.min(first, at(moved)), Math.max(first, at(moved)));
    };
    this.element.setPointerCapture(event.pointerId);
    this.element.addEventListener("pointermove", move);
    const up = (last) => {
      this.element.removeEventListener("pointermove", move);
      if (!dragged && last.type === "pointerup") this.dispatchEvent(new CustomEvent("seek", { detail: first }));
    };
    this.element.addEventListener("pointerup", up, { once: true });
    this.element.addEventListener("pointercancel", up, { once: true });
  }
}
