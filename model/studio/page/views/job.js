/** One job: what was asked, how far it is, and what went wrong. Its recordings are shown by Comparison. */

import { cancel, follow, isFinal, job as fetchJob } from "../api.js";
import { connection } from "../connection.js";
import { $, announce, count, h, icon, say, spoken } from "../dom.js";
import { short } from "./ask.js";
import { Comparison } from "./compare.js";

/** Return a job's settings in one line. @param {import("../api.js").Job} job */
function settingsLine({ settings, input, model }) {
  const { seed, n, guidance, temperature, top_k, from_input } = settings;
  const asked = [`${input.seconds.toFixed(1)} s of ${input.name}`, count(n, "candidate"), `seed ${seed}`];
  const drawn = [`guidance ${guidance}`, `temperature ${temperature}`, `top k ${top_k}`, model];
  return [...asked, ...(from_input ? ["the input’s own sound"] : []), ...drawn].join(" · ");
}

/** Return what went wrong with a job, or nothing. @param {import("../api.js").Job} job */
function problem(job) {
  if (job.error) return job.error.message;
  if (job.state === "canceled") return "Canceled.";
  if (job.state === "interrupted") {
    return "The studio was stopped while this was made. Press “Use these again” to fill in its settings.";
  }
  return "";
}

/** Fires "changed" with the job at each change, "again" with a job, and "gone" with a sentence. */
export class JobPanel extends EventTarget {
  /** @type {import("../api.js").Job | null} */
  job = null;
  /** @type {any[]} the models that the server has */
  models = [];
  comparison = new Comparison();
  #end = () => {};
  #turn = 0;
  #id = "";
  #said = "";
  #actions = "";

  constructor() {
    super();
    $("#job-cancel").addEventListener("click", () => this.#cancel());
    this.comparison.addEventListener("problem", ({ detail }) => this.#tell(detail));
  }

  /** Show a job and follow it. Returns when it is shown. @param {string} id */
  async open(id) {
    if (this.#id === id) return;
    this.close();
    this.#id = id;
    await this.#begin(id, ++this.#turn);
  }

  async #begin(id, turn) {
    if (turn !== this.#turn) return;
    const take = (job) => turn === this.#turn && this.#update(job);
    const gone = (error) => {
      if (turn !== this.#turn) return;
      if (this.job) return say($("#job-error"), error.message);
      this.#id = "";
      this.dispatchEvent(new CustomEvent("gone", { detail: error.message }));
    };
    try {
      const job = await fetchJob(id);
      if (turn !== this.#turn) return;
      take(job);
      if (!isFinal(job)) this.#end = follow(id, take, gone);
    } catch (error) {
      if (error.status === 404) return gone(error);
      if (error.type !== "lost" && error.type !== "forbidden") say($("#history-error"), error.message);
      connection.addEventListener("back", () => this.#begin(id, turn), { once: true });
    }
  }

  /** Forget the job; nothing of it plays on. */
  close() {
    this.#turn++;
    this.#end();
    this.#end = () => {};
    this.comparison.clear();
    this.job = null;
    this.#id = this.#said = this.#actions = "";
    $("#listen").hidden = true;
    for (const id of ["#job-error", "#job-note"]) say($(id), "");
  }

  /** @param {import("../api.js").Job} job */
  #update(job) {
    const changed = this.job?.state !== job.state;
    this.job = job;
    if (changed) this.#tell("");
    $("#listen").hidden = false;
    $("#job-sentence").textContent = short(job.prompt);
    $("#job-settings").textContent = settingsLine(job);
    say($("#job-note"), job.note ?? "");
    this.#progress(job);
    this.#offer(job);
    this.comparison.update(job, this.#model?.sample_rate ?? 32000);
    this.dispatchEvent(new CustomEvent("changed", { detail: job }));
  }

  /** Say what is wrong with its recordings, or, where that is nothing, with the job. @param {string} trouble */
  #tell(trouble) {
    say($("#job-error"), trouble || (this.job ? problem(this.job) : ""));
    $("#job-error").classList.toggle("calm", !trouble && !this.job?.error);
  }

  get #model() {
    return this.models.find(({ id }) => id === this.job?.model);
  }

  #progress(job) {
    $("#job-progress").hidden = isFinal(job);
    const bar = $("#job-bar");
    if (job.state === "running" && job.done) bar.value = job.done / job.total;
    else bar.removeAttribute("value");
    const text = this.#stateText(job);
    if ($("#job-state").textContent !== text) $("#job-state").textContent = text;
    const quarter = job.total ? Math.floor((4 * job.done) / job.total) * 25 : 0;
    const running = quarter ? `${quarter} percent made.` : text;
    const says = { queued: text, running, done: "The edit is done." }[job.state] ?? `The edit is ${job.state}.`;
    if (says === this.#said) return;
    this.#said = says;
    announce(says);
  }

  #stateText(job) {
    const left = job.seconds_left === null ? "" : ` · ${spoken(job.seconds_left)} left`;
    if (job.state === "queued") {
      const place = job.queue_position ? `Number ${job.queue_position + 1} in line` : "Next in line";
      return place + left;
    }
    if (!job.done) return this.#model?.state === "loading" ? "Loading the model…" : "Listening to the clip…";
    return `${Math.floor((100 * job.done) / job.total)} %${left}`;
  }

  /** Offer what can be done with the whole job. @param {import("../api.js").Job} job */
  #offer(job) {
    const key = `${job.id} ${job.zip}`;
    if (this.#actions === key) return;
    this.#actions = key;
    const focused = $("#job-actions").contains(document.activeElement);
    const use = () => this.dispatchEvent(new CustomEvent("again", { detail: this.job }));
    const again = h(
      "button",
      { type: "button", class: "quiet", id: "again", onclick: use },
      icon("again"),
      "Use these again",
    );
    const zip =
      job.zip &&
      h("a", { class: "button quiet", id: "zip", href: job.zip, download: true }, icon("down"), "All as ZIP");
    $("#job-actions").replaceChildren(again, ...(zip ? [zip] : []));
    if (focused) again.focus();
  }

  async #cancel() {
    const { id } = this.job;
    const button = $("#job-cancel");
    button.disabled = true;
    try {
      await cancel(id);
    } catch (error) {
      if (this.job?.id === id) say($("#job-error"), error.message);
    } finally {
      button.disabled = false;
      if (document.activeElement === document.body) $("#listen").focus({ preventScroll: true });
    }
  }
}
