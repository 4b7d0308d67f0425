/** A job's recordings side by side: drawn and played while they are made, and compared when they are done. */

import { isFinal } from "../api.js";
import { Player } from "../audio/player.js";
import { LivePlayer, canPlayLive } from "../audio/live.js";
import { Sound, decode } from "../audio/sound.js";
import { connection, file } from "../connection.js";
import { $, h, icon, say } from "../dom.js";
import { short } from "./ask.js";
import { TrackCard } from "./track.js";
import { Transport } from "./transport.js";

const WITHHELD =
  "Browsers let a page play unfinished sound on https and on this machine’s own address only. The finished edits can be played here.";

/** Fires "editthis" with {source, url, name}, and "problem" with a sentence. */
export class Comparison extends EventTarget {
  transport = new Transport();
  #player = new Player();
  /** @type {LivePlayer | null} */
  #live = null;
  /** @type {Map<string, TrackCard>} */
  #cards = new Map();
  /** @type {Map<string, string>} the recordings that the job has, and where they are fetched */
  #files = new Map();
  #coming = new Set(); // those that are being fetched
  #problems = new Map(); // why others are not here
  #end = new AbortController(); // of what is fetched
  /** @type {import("../api.js").Job | null} */
  #job = null;

  constructor() {
    super();
    connection.addEventListener("back", () => {
      for (const key of this.#files.keys()) if (!this.#player.tracks.has(key)) this.#fetch(key);
    });
    this.transport.addEventListener("state", () => {
      const { selected, playing, tracks } = this.transport.player;
      for (const card of this.#cards.values()) {
        card.mark(selected, playing);
        card.button.disabled = !tracks.has(card.shown);
      }
    });
    this.transport.addEventListener("move", () => {
      const { position, duration } = this.transport.player;
      for (const card of this.#cards.values()) card.view.setPlayhead(duration ? position / duration : 0);
    });
  }

  /** Forget everything; nothing plays on. */
  clear() {
    this.#end.abort();
    this.#end = new AbortController();
    this.#live?.close();
    this.#live = null;
    this.#player.clear();
    this.transport.use(null);
    this.#cards.clear();
    for (const each of [this.#files, this.#coming, this.#problems]) each.clear();
    this.#job = null;
    $("#tracks").replaceChildren();
    say($("#job-live"), "");
  }

  /**
   * Show what a job has by now.
   * @param {import("../api.js").Job} job
   * @param {number} rate of the model that makes it, Hz
   */
  update(job, rate) {
    this.#job = job;
    if (isFinal(job)) this.#problems.delete("live"); // finished files are played without it
    this.#card("0", "Input");
    this.#load("0", job.input.file);
    const expected = isFinal(job) ? 0 : job.settings.n;
    for (let n = 1; n <= expected; n++) this.#card(String(n), `Candidate ${n}`);
    for (const candidate of job.candidates) {
      if (isFinal(job)) this.#finished(job, candidate);
      else this.#growing(job, candidate, rate);
    }
    this.transport.setTracks([...this.#cards.values()].map((card) => [card.key, card.title]));
    if (isFinal(job)) this.#settle();
    else if (!this.transport.player) this.transport.use(this.#player);
    this.#tellLive();
  }

  #card(key, title) {
    const known = this.#cards.get(key);
    if (known) return known;
    const { transport } = this;
    const card = new TrackCard(key, title);
    card.onselect = (shown) => transport.select(shown);
    card.onseek = (shown, part) => {
      transport.select(shown);
      transport.player?.seek(part * transport.player.duration);
    };
    card.onplay = (shown) => {
      if (transport.player?.playing && transport.player.selected === shown) transport.player.pause();
      else if (transport.select(shown)) transport.player.play();
    };
    this.#cards.set(key, card);
    $("#tracks").append(card.element);
    return card;
  }

  #growing(job, candidate, rate) {
    const key = String(candidate.number);
    const card = this.#card(key, `Candidate ${key}`);
    card.setFacts(candidate, job.ranked_by, job.candidates.length);
    card.setMade(candidate.seconds ? candidate.ready_seconds / candidate.seconds : 0);
    if (candidate.files.live && job.state === "running")
      this.#listenLive(job, rate).add(key, candidate.files.live, candidate.ready_seconds);
  }

  #finished(job, candidate) {
    const key = String(candidate.number);
    const { wav, residual } = candidate.files;
    if (!wav) {
      this.#cards.get(key)?.element.remove();
      this.#cards.delete(key);
      return;
    }
    const card = this.#card(key, `Candidate ${key}`);
    card.setFacts(candidate, job.ranked_by, job.candidates.length);
    card.setMade(1);
    this.#load(key, wav);
    if (residual) this.#load(`${key}r`, residual);
    if (card.finished) return;
    card.finished = true;
    const name = `${short(job.prompt)} (${key}) of ${job.input.name}`;
    const next = { source: `${job.id}/${key}`, url: wav, name };
    const edit = () => this.dispatchEvent(new CustomEvent("editthis", { detail: next }));
    card.setActions(
      candidate.files,
      h(
        "button",
        { type: "button", class: "quiet", onclick: edit, "aria-label": `Edit candidate ${key}` },
        "Edit this",
      ),
      residual ? card.makeResidualButton(() => this.#residual(key)) : null,
    );
  }

  #residual(key) {
    const shown = this.transport.player.selected === `${key}r`;
    this.transport.select(shown ? key : `${key}r`);
  }

  /** Draw what is still coming, and play it where the browser lets. */
  #listenLive(job, rate) {
    if (this.#live) return this.#live;
    const live = (this.#live = new LivePlayer(rate, job.input.seconds));
    live.addEventListener("samples", ({ detail: key }) => this.#draw(key, live.sounds.get(key)));
    live.addEventListener("state", () => this.#tellLive());
    live.addEventListener("problem", ({ detail }) => this.#tell("live", detail));
    if (!canPlayLive()) return live;
    file(job.input.file, this.#end.signal)
      .then((blob) => blob.arrayBuffer())
      .then((bytes) => this.#live === live && live.addWhole("0", bytes))
      .catch(() => {}); // the player, which needs it more, tells
    const { playing, position } = this.#player;
    this.#player.pause();
    live.seek(position);
    this.transport.use(live);
    if (playing) live.play();
    return live;
  }

  #tellLive() {
    const live = this.#live;
    if (!live || !this.#job || isFinal(this.#job)) return say($("#job-live"), "");
    const waits = live.playing && live.waiting;
    say(
      $("#job-live"),
      !canPlayLive() ? WITHHELD : waits ? "Waiting for more sound…" : "You can listen while it is made.",
    );
  }

  /** Take a recording that the job has. */
  #load(key, url) {
    if (this.#files.has(key)) return;
    this.#files.set(key, url);
    this.#fetch(key);
  }

  /** Fetch and decode a recording. Where that fails it is told, and tried again after the connection was lost. */
  async #fetch(key) {
    if (this.#coming.has(key)) return;
    this.#coming.add(key);
    const { signal } = this.#end;
    let problem = "";
    try {
      const bytes = await (await file(this.#files.get(key), signal)).arrayBuffer();
      const buffer = await decode(bytes);
      if (signal.aborted) return;
      this.#player.add(key, buffer);
      this.#choose();
      this.#draw(key, Sound.of(buffer));
    } catch (error) {
      if (signal.aborted) return;
      problem = error.message;
    }
    this.#coming.delete(key);
    if (problem || this.#problems.has(key)) this.#tell(key, problem);
    if (isFinal(this.#job)) this.#settle();
  }

  #tell(key, problem) {
    if (problem) this.#problems.set(key, problem);
    else this.#problems.delete(key);
    const [first = ""] = this.#problems.values();
    this.dispatchEvent(new CustomEvent("problem", { detail: first }));
  }

  /** Until a person chooses, the best candidate is what is heard, or the input where there is none yet. */
  #choose() {
    if (this.transport.chosen || this.#player.playing) return;
    const ranked = [...this.#job.candidates].sort((a, b) => (a.rank ?? a.number) - (b.rank ?? b.number));
    const keys = isFinal(this.#job) ? ranked.map(({ number }) => String(number)) : [];
    const key = [...keys, "0"].find((wanted) => this.#player.tracks.has(wanted));
    if (key) this.#player.select(key);
  }

  /** Everything is drawn to one scale, so that quiet looks quiet. */
  #draw(key, sound) {
    this.#cards.get(key.replace("r", ""))?.setSound(key, sound);
    const loudest = Math.max(0.05, ...[...this.#cards.values()].map((card) => card.view.loudest));
    for (const card of this.#cards.values()) card.view.setScale(1 / loudest);
  }

  /** Go over to the finished recordings once they are all here, at the place where the live ones are. */
  #settle() {
    const live = this.#live;
    const player = this.#player;
    const finished = [...this.#cards.values()].filter((card) => card.finished).map((card) => card.key);
    if (live && !["0", ...finished].every((key) => player.tracks.has(key))) return;
    const from = this.transport.player;
    if (from === player) return;
    this.#live = null;
    if (from) {
      player.seek(from.position);
      if (this.transport.chosen || from.playing) player.select(from.selected);
    }
    this.transport.use(player);
    if (from?.playing) player.play();
    live?.close();
    this.#tellLive();
  }
}
