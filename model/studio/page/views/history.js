/** Every edit that was made and kept, newest first. */

import { cancel, isFinal, jobs as fetchJobs, remove } from "../api.js";
import { $, announce, count, h, say, when } from "../dom.js";
import { short } from "./ask.js";

const FIRST = 12; // shown until all are asked for
const POLL = 3000; // ms between looks, while something is made

const STATES = {
  queued: "waiting",
  running: "being made",
  failed: "failed",
  canceled: "canceled",
  interrupted: "interrupted",
};

/** Fires "open" with an id, "again" with a job, "deleted" with an id. */
export class HistoryPanel extends EventTarget {
  /** @type {import("../api.js").Job[]} */
  jobs = [];
  #open = "";
  #asked = ""; // the job whose deletion is to be confirmed
  #all = false;
  /** @type {string | null} what is asked for to see older ones; null where there are none */
  #before = null;
  #timer = 0;
  #drawn = "";
  #turn = 0; // counts questions, so that a late answer does not take the place of a later one

  constructor() {
    super();
    $("#jobs-all").addEventListener("click", () => this.#more());
    document.addEventListener("visibilitychange", () => document.hidden || this.refresh());
  }

  /** Ask the server anew. */
  async refresh() {
    clearTimeout(this.#timer);
    const turn = ++this.#turn;
    try {
      const { jobs, before } = await fetchJobs();
      if (turn !== this.#turn) return;
      this.#take(jobs, before);
      say($("#history-error"), "");
      this.#draw();
    } catch (error) {
      if (turn !== this.#turn) return;
      if (error.type !== "lost") say($("#history-error"), error.message);
    }
    if (this.jobs.some((job) => !isFinal(job)) && !document.hidden)
      this.#timer = setTimeout(() => this.refresh(), POLL);
  }

  /** Take the newest jobs; older ones that were asked for stay behind them. */
  #take(jobs, before) {
    const oldest = jobs.at(-1)?.created ?? 0;
    const older = before === null ? [] : this.jobs.filter(({ created }) => created < oldest);
    if (!older.length) this.#before = before;
    this.jobs = [...jobs, ...older];
  }

  /** Show those that are hidden, then older ones. */
  async #more() {
    if (this.#all && this.#before !== null) {
      try {
        const { jobs, before } = await fetchJobs(this.#before);
        const known = new Set(this.jobs.map(({ id }) => id));
        this.jobs.push(...jobs.filter(({ id }) => !known.has(id)));
        this.#before = before;
      } catch (error) {
        if (error.status === 404) this.#before = this.jobs.at(-1)?.id ?? null; // it was deleted meanwhile
        else if (error.type !== "lost") say($("#history-error"), error.message);
      }
    }
    this.#all = true;
    this.#draw();
  }

  /** Take what is known of one job. @param {import("../api.js").Job} job */
  update(job) {
    const at = this.jobs.findIndex(({ id }) => id === job.id);
    if (at < 0) this.jobs.unshift(job);
    else this.jobs[at] = job;
    this.#draw();
  }

  /** Mark the job that is shown above. */
  setOpen(id) {
    this.#open = id;
    this.#draw();
  }

  #draw() {
    const shown = this.#all ? this.jobs : this.jobs.slice(0, FIRST);
    const state = JSON.stringify([
      shown.map(({ id, state, candidates }) => [id, state, candidates.length]),
      this.#open,
      this.#asked,
    ]);
    $("#history-empty").hidden = this.jobs.length > 0;
    const hidden = shown.length < this.jobs.length;
    $("#jobs-all").hidden = !hidden && this.#before === null;
    $("#jobs-all").textContent =
      !hidden || this.#before !== null ? "Show older edits" : `Show all ${this.jobs.length}`;
    if (state === this.#drawn) return;
    this.#drawn = state;
    const focus = document.activeElement?.closest?.("#jobs [data-focus]")?.dataset.focus;
    $("#jobs").replaceChildren(...shown.map((job) => this.#row(job)));
    if (focus) $(`#jobs [data-focus="${CSS.escape(focus)}"]`)?.focus();
  }

  /** @param {import("../api.js").Job} job */
  #row(job) {
    const { id, settings, input } = job;
    const named = short(job.prompt);
    const about = [
      input.name,
      `${input.seconds.toFixed(1)} s`,
      count(settings.n, "candidate"),
      `seed ${settings.seed}`,
      when(job.created),
    ];
    const open = h(
      "button",
      {
        type: "button",
        class: "quiet job",
        "data-focus": `open ${id}`,
        "aria-current": id === this.#open ? "true" : null,
        onclick: () => this.#send("open", id),
      },
      h(
        "span",
        { class: "name" },
        `${named} `,
        STATES[job.state] ? h("span", { class: `state ${job.state}` }, STATES[job.state]) : null,
      ),
      h("span", { class: "hint digits" }, about.join(" · ")),
    );
    return h("li", {}, open, this.#asked === id ? this.#confirm(job, named) : this.#buttons(job, named));
  }

  #buttons(job, named) {
    const { id } = job;
    const final = isFinal(job);
    const ask = () => {
      this.#asked = id;
      this.#draw();
      $("#jobs .keep").focus();
    };
    return h(
      "div",
      { class: "row" },
      h(
        "button",
        {
          type: "button",
          class: "quiet",
          "data-focus": `again ${id}`,
          "aria-label": `Use these again: ${named}`,
          onclick: () => this.#send("again", job),
        },
        "Use again",
      ),
      h(
        "button",
        {
          type: "button",
          class: "quiet",
          "data-focus": `delete ${id}`,
          "aria-label": `${final ? "Delete" : "Cancel"}: ${named}`,
          onclick: final ? ask : () => this.#remove(job),
        },
        final ? "Delete" : "Cancel",
      ),
    );
  }

  #confirm(job, named) {
    const keep = () => {
      this.#asked = "";
      this.#draw();
      $(`#jobs [data-focus="delete ${CSS.escape(job.id)}"]`)?.focus();
    };
    return h(
      "div",
      { class: "row", role: "group", "aria-label": `Delete ${named}?` },
      h("span", {}, "With its files?"),
      h("button", { type: "button", class: "danger", onclick: () => this.#remove(job) }, "Delete"),
      h("button", { type: "button", class: "quiet keep", onclick: keep }, "Keep"),
    );
  }

  async #remove(job) {
    this.#asked = "";
    try {
      await (isFinal(job) ? remove : cancel)(job.id);
    } catch (error) {
      if (error.status !== 404) return say($("#history-error"), error.message);
    }
    if (isFinal(job)) {
      const at = this.jobs.findIndex(({ id }) => id === job.id);
      this.jobs = this.jobs.filter(({ id }) => id !== job.id);
      this.#send("deleted", job.id);
      announce("Deleted.");
      this.#draw();
      const rows = $("#jobs").querySelectorAll(".job");
      (rows[Math.min(at, rows.length - 1)] ?? $("#choose")).focus();
    }
    this.refresh();
  }

  #send(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}
