/** One recording in the comparison: the input, or a candidate with its residual. */

import { h, icon, setIcon } from "../dom.js";
import { WaveView } from "./wave.js";

const ORDINALS = ["1st", "2nd", "3rd"];

/** Return "1st", "2nd", "4th", "21st". @param {number} rank */
function ordinal(rank) {
  const teen = rank % 100 > 10 && rank % 100 < 14;
  return (!teen && ORDINALS[(rank % 10) - 1]?.replace(/^\d/, String(rank))) || `${rank}th`;
}

/**
 * A card with a picture, a button that plays it, and what can be done with it. `key` is the digit that selects it; that
 * of its residual is the same with an "r".
 */
export class TrackCard {
  /** @type {Record<string, import("../audio/sound.js").Sound>} */
  #sounds = {};
  /** @type {import("../api.js").Files} */
  #files = { wav: null, flac: null, live: null, residual: null };
  /** @type {Record<string, HTMLAnchorElement>} by format */
  #links = {};
  onselect = (_key) => {};
  onplay = (_key) => {};
  onseek = (_key, _part) => {};

  /** @param {string} key @param {string} title */
  constructor(key, title) {
    this.key = key;
    this.title = title;
    this.shown = key;
    this.view = new WaveView();
    this.view.onseek = (part) => this.onseek(this.shown, part);
    this.button = h("button", { type: "button", class: "play", onclick: () => this.onplay(this.shown) }, icon("play"));
    this.facts = h("p", { class: "facts digits" });
    this.badge = h("span", { class: "rank" });
    this.actions = h("div", { class: "actions" });
    this.progress = h("div", { class: "made" });
    this.view.element.append(this.progress);
    const head = h(
      "div",
      { class: "track-head" },
      this.button,
      h("h3", {}, h("kbd", { "aria-hidden": "true" }, key), " ", title),
      this.badge,
      this.facts,
    );
    this.element = h("article", { class: "track", "aria-label": title }, head, this.view.element, this.actions);
    this.element.dataset.key = key;
    head.addEventListener("click", (event) => {
      if (!event.target.closest("button")) this.onselect(this.shown);
    });
    this.mark("", false);
  }

  /** Give the card a recording to draw. @param {import("../audio/sound.js").Sound} sound */
  setSound(key, sound) {
    this.#sounds[key] = sound;
    if (key === this.shown) this.view.show(sound);
  }

  /** Show how much of it is made, 0 to 1. */
  setMade(part) {
    this.progress.style.transform = `scaleX(${1 - Math.max(0, Math.min(1, part))})`;
  }

  /** @param {import("../api.js").Candidate} candidate @param {string | null} rankedBy @param {number} of */
  setFacts(candidate, rankedBy, of) {
    const score =
      candidate.score === null ? "" : `${rankedBy ?? "score"} ${candidate.score.toFixed(1).replace("-", "−")}`;
    this.facts.textContent = [score, `seed ${candidate.seed}`].filter(Boolean).join(" · ");
    this.facts.title =
      rankedBy === "fit" && score
        ? "Fit: how many dB the edit adds to the input (Only, No) or loses from it (Add). Nearer 0 is better."
        : "";
    const ranked = candidate.rank !== null && of > 1;
    this.badge.textContent = ranked ? (candidate.rank === 1 ? "best fit" : ordinal(candidate.rank)) : "";
    this.badge.classList.toggle("best", candidate.rank === 1);
  }

  /** Say what is selected, and whether it plays. @param {string} selected */
  mark(selected, playing) {
    const mine = selected === this.key || selected === `${this.key}r`;
    if (mine && selected !== this.shown) {
      this.shown = selected;
      if (this.#sounds[selected]) this.view.show(this.#sounds[selected]);
    } else if (!mine && this.shown !== this.key) {
      this.shown = this.key;
      if (this.#sounds[this.key]) this.view.show(this.#sounds[this.key]);
    }
    const residual = this.shown !== this.key;
    const looks = `track${mine ? " selected" : ""}${residual ? " residual" : ""}`;
    if (this.element.className !== looks) {
      this.element.className = looks;
      this.view.redraw();
    }
    const sounds = mine && playing;
    setIcon(this.button.firstChild, sounds ? "pause" : "play");
    this.button.setAttribute(
      "aria-label",
      `${sounds ? "Pause" : "Play"} ${this.title}${residual ? ", the residual" : ""}`,
    );
    this.residualButton?.setAttribute("aria-pressed", String(residual));
    this.#offer(residual);
  }

  /** Offer what can be done with a finished candidate, and its files. @param {import("../api.js").Files} files */
  setActions(files, ...children) {
    this.#files = files;
    const link = (format) => h("a", { class: "button quiet", download: true }, icon("down"), format);
    this.#links = { WAV: link("WAV"), FLAC: link("FLAC") };
    const grow = h("span", { class: "grow" });
    this.actions.replaceChildren(...children.filter((child) => child !== null), grow, ...Object.values(this.#links));
    this.#offer(this.shown !== this.key);
  }

  /** Let the links be of what is shown: the candidate, or what it took out, which is there as WAV alone. */
  #offer(residual) {
    for (const [format, link] of Object.entries(this.#links)) {
      const url = format === "WAV" ? (residual ? this.#files.residual : this.#files.wav) : this.#files.flac;
      link.hidden = !url || (residual && format !== "WAV");
      link.href = url ?? "";
      link.setAttribute("aria-label", `${residual ? `What ${this.title} took out` : this.title} as ${format}`);
    }
  }

  /** Make the button that switches between the candidate and its residual. */
  makeResidualButton(onclick) {
    this.residualButton = h(
      "button",
      { type: "button", class: "quiet", "aria-pressed": "false", onclick },
      icon("residual"),
      "What was taken out",
    );
    return this.residualButton;
  }
}
