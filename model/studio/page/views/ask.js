/** What is asked for: a verb and an instrument, or a sentence; candidates and settings; and how long it will take. */

import { sentence, submit } from "../api.js";
import { ApiError } from "../connection.js";
import { $, count, h, say, spoken } from "../dom.js";

const PREAMBLE = "Music piece. Instruct: ";
const NUMBERS = ["seed", "guidance", "temperature", "top_k"];
const SAYS = {
  Only: "Only this instrument stays.",
  No: "Everything but this instrument stays.",
  Add: "This instrument joins what is there.",
};
/** Where an error is shown, by the parameter that it is about; what is not here goes below the button. */
const PLACES = {
  prompt: "prompt",
  n: "n",
  from_input: "from_input",
  seed: "settings",
  guidance: "settings",
  temperature: "settings",
  top_k: "settings",
};
const CLIP = new Set(["file", "source", "start", "end"]);

/** Return a sentence as a title: "No Drums" of "Music piece. Instruct: No Drums." @param {string} text */
export function short(text) {
  return text.startsWith(PREAMBLE) ? text.slice(PREAMBLE.length).replace(/\.$/, "") : text;
}

/** Fires "submitted" with the job. */
export class AskPanel extends EventTarget {
  /** @type {any} */
  model = null;
  #limits = { candidates: 8 };
  #turn = 0;
  #sending = false;

  /** @param {import("./clip.js").ClipPanel} clip */
  constructor(clip) {
    super();
    this.clip = clip;
    $("#ask").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send();
    });
    $("#ask").addEventListener("input", ({ target }) => this.#changed(target));
    for (const [id, by] of [
      ["#fewer", -1],
      ["#more", 1],
    ])
      $(id).addEventListener("click", () => this.#step(by));
    $("#defaults").addEventListener("click", () => {
      this.#useDefaults();
      this.#changed(null);
    });
    clip.addEventListener("change", () => this.#refresh());
  }

  /** Offer what a model can do. @param {any} model @param {any} limits */
  setModel(model, limits) {
    const first = this.model === null;
    const other = model.id !== this.model?.id;
    this.model = model;
    this.#limits = limits;
    $("#n").max = limits.candidates;
    if (other) {
      const was = this.#chosen();
      this.#choices($("#verbs"), "verb", model.edits, was.verb);
      this.#choices($("#instruments"), "instrument", model.instruments, was.instrument);
      this.#useDefaults(!first);
    }
    this.#changed(null);
  }

  /** Fill in what an earlier job was asked with. @param {import("../api.js").Job} job */
  restore(job) {
    const trained = job.prompt.startsWith(PREAMBLE) && /^(\w+) (.+)$/.exec(short(job.prompt));
    const [, verb, instrument] = trained || [];
    const known = this.model.edits.includes(verb) && this.model.instruments.includes(instrument);
    for (const radio of $("#ask").querySelectorAll("input[type=radio]")) {
      radio.checked = known && [verb, instrument].includes(radio.value);
    }
    $("#prompt").value = known ? "" : job.prompt;
    $("#n").value = job.settings.n;
    $("#from_input").checked = job.settings.from_input;
    for (const name of NUMBERS) $(`#${name}`).value = job.settings[name] ?? "";
    this.#clearErrors();
    this.#changed(null);
  }

  /** Return the sentence that is asked for, as it is sent; empty if nothing is chosen. */
  get prompt() {
    const typed = $("#prompt").value.trim();
    const { verb, instrument } = this.#chosen();
    return typed || (verb && instrument ? `${PREAMBLE}${verb} ${instrument}.` : "");
  }

  #chosen() {
    const checked = (name) => $(`#ask input[name=${name}]:checked`)?.value;
    return { verb: checked("verb"), instrument: checked("instrument") };
  }

  #choices(element, name, values, was) {
    element.replaceChildren(
      ...values.map((value) => {
        const radio = h("input", { type: "radio", name, value });
        radio.checked = value === was;
        return h("label", { class: "chip" }, radio, h("span", {}, value));
      }),
    );
  }

  /** @param {boolean} [keep] leave what was typed */
  #useDefaults(keep = false) {
    for (const name of NUMBERS) {
      const field = $(`#${name}`);
      if (name === "seed") field.value = keep ? field.value : "";
      else if (!keep || !field.value) field.value = this.model.defaults[name] ?? "";
    }
  }

  #step(by) {
    const n = $("#n");
    n.value = Math.max(1, Math.min(this.#limits.candidates, (Number(n.value) || 1) + by));
    this.#changed(n);
  }

  /** A chip takes the place of what was typed, and the other way round. */
  #changed(target) {
    if (target?.type === "radio") {
      $("#prompt").value = "";
      if (target.name === "instrument" && !this.#chosen().verb) $("#verbs input").checked = true;
    }
    if (target?.id === "prompt" && target.value.trim()) {
      for (const radio of $("#ask").querySelectorAll("input[type=radio]:checked")) radio.checked = false;
    }
    if (target) this.#clearErrors();
    const { verb } = this.#chosen();
    $("#verb-says").textContent = SAYS[verb] ?? "";
    $("#from_input").disabled = verb === "Add";
    const defaults = NUMBERS.slice(1).every((name) => Number($(`#${name}`).value) === this.model?.defaults[name]);
    const seed = $("#seed").value === "" ? "new seed" : `seed ${$("#seed").value}`;
    $("#settings-says").textContent = defaults ? seed : `${seed}, changed`;
    this.#preview();
    this.#refresh();
  }

  /** Show what the model will be given, and what the server has to say to it. */
  #preview() {
    const turn = ++this.#turn;
    const { prompt, model } = this;
    const show = (text, note) => {
      const heard = text ? [h("span", { class: "hint" }, "The model reads "), h("q", {}, text)] : [];
      $("#sentence").replaceChildren(...heard, ...(note ? [h("span", { class: "note" }, note)] : []));
    };
    if (!prompt || !model) return show("", "");
    if (prompt.startsWith(PREAMBLE)) show(prompt, "");
    setTimeout(async () => {
      if (turn !== this.#turn) return;
      const found = await sentence(model.id, prompt);
      if (found && turn === this.#turn) show(found.sentence, found.note);
    }, 250);
  }

  /** Say how long it takes, where that is known and longer than listening, or what is still missing. */
  #refresh() {
    const seconds = this.clip.seconds;
    const missing = !this.clip.clip ? "First choose a clip above." : !this.prompt ? "Choose what should change." : "";
    const takes = seconds === null ? null : this.#estimate(seconds);
    const says = takes === null ? "" : `About ${spoken(takes)} on this machine for ${count(this.n, "candidate")}.`;
    $("#estimate").textContent = missing || says;
    $("#edit").disabled = this.#sending;
  }

  get n() {
    return Math.max(1, Math.round(Number($("#n").value)) || 1);
  }

  /** Return the seconds that an edit takes, or null where it is unknown or faster than real time. */
  #estimate(seconds) {
    let rate = this.model?.work_per_second ?? null;
    if (rate !== null && typeof rate === "object") {
      const nearest = Object.keys(rate).sort((a, b) => Math.abs(a - this.n) - Math.abs(b - this.n))[0];
      rate = nearest === undefined ? null : rate[nearest];
    }
    return rate !== null && rate > 1 ? rate * seconds : null;
  }

  /** Say something about the form, until it is changed or sent. @param {string} text */
  note(text) {
    say($("#edit-error"), text);
  }

  #clearErrors() {
    for (const element of $("#ask").querySelectorAll(".error")) say(element, "");
    for (const field of $("#ask").querySelectorAll("[aria-invalid]")) field.removeAttribute("aria-invalid");
  }

  async #send() {
    if (this.#sending) return;
    this.#clearErrors();
    this.clip.fail("");
    if (!this.clip.clip) return this.clip.fail("Choose a clip first: a file, a recording or the example.");
    if (!this.prompt)
      return this.#fail(
        new ApiError({
          message: "Choose an edit and an instrument, or write what should change.",
          type: "",
          param: "prompt",
        }),
      );
    const form = new FormData();
    this.clip.fill(form);
    form.set("model", this.model.id);
    form.set("prompt", this.prompt);
    form.set("n", $("#n").value);
    form.set("from_input", String($("#from_input").checked && !$("#from_input").disabled));
    form.set("seed", this.#seed());
    for (const name of NUMBERS.slice(1)) if ($(`#${name}`).value) form.set(name, $(`#${name}`).value);
    this.#busy(true);
    try {
      this.dispatchEvent(new CustomEvent("submitted", { detail: await submit(form) }));
    } catch (error) {
      this.#fail(error);
    } finally {
      this.#busy(false);
    }
  }

  /** Return what was typed, or one drawn here: five digits can be read out and typed again. */
  #seed() {
    const { value, validity } = $("#seed");
    if (validity.badInput) return "not a number";
    return value || String(Math.floor(Math.random() * 100000));
  }

  #busy(on) {
    this.#sending = on;
    $("#edit").textContent = on ? "Sending…" : "Edit";
    this.#refresh();
  }

  /** Show an error beside what it is about. @param {ApiError} error */
  #fail(error) {
    if (CLIP.has(error.param)) return this.clip.fail(error.message);
    const place = PLACES[error.param] ?? "edit";
    if (place === "settings") $("#settings").open = true;
    say($(`#${place}-error`), error.message);
    const field = error.param && $(`#${CSS.escape(error.param)}`);
    if (place === "edit" || !field) return;
    field.setAttribute("aria-invalid", "true");
    field.focus();
  }
}
