/** Where a clip comes from: a file, a drop, the microphone, the example, or an edit made before; and its region. */

import { Player } from "../audio/player.js";
import { Recording, whyNoMicrophone } from "../audio/recorder.js";
import { Sound, decode, formatOf, lengthOf } from "../audio/sound.js";
import { file as fetchFile } from "../connection.js";
import { $, announce, clock, count, say, setIcon } from "../dom.js";
import { RegionView } from "./region.js";

const DRAWN = 900; // s; what is longer would fill the browser's memory, and its region is typed

/** Fires "change" when there is another clip or region, and "plays" when its player is used. */
export class ClipPanel extends EventTarget {
  /** @type {{file?: File, source?: string, name: string, seconds: number | null} | null} */
  clip = null;
  limits = { upload_bytes: Infinity, clip_seconds: Infinity, clip_samples: Infinity };
  player = new Player();
  region = new RegionView($("#region"));
  /** @type {Recording | null} */
  #recording = null;
  #longest = Infinity; // seconds of this clip that may be edited
  #turn = 0; // counts clips, so that a slow one does not replace a later one
  #end = new AbortController(); // of the one that is fetched

  constructor() {
    super();
    $("#choose").addEventListener("click", () => $("#file").click());
    $("#file").addEventListener("change", ({ target }) => {
      if (target.files[0]) this.#take(target.files[0]);
      target.value = "";
    });
    $("#example").addEventListener("click", () => this.#fetch("/page/example.flac", { name: "clip.flac" }));
    $("#clip-replace").addEventListener("click", () => this.#empty());
    $("#clip-whole").addEventListener("click", () => this.region.whole());
    $("#clip-play").addEventListener("click", () => this.player.toggle());
    for (const id of ["#from", "#to"]) $(id).addEventListener("change", ({ target }) => this.#typed(target));
    this.region.addEventListener("change", () => this.#regionChanged());
    this.region.addEventListener("seek", ({ detail }) => this.player.seek(detail));
    this.player.addEventListener("state", () => this.#playerChanged());
    this.#listenForDrops();
    this.#prepareRecording();
  }

  /** Take what an earlier job has as the next input: its input (`JOB/input`) or an edit (`JOB/1`). */
  takeSource(source, url, name) {
    return this.#fetch(url, { name, source });
  }

  /** Show what the server has against the clip. */
  fail(message) {
    say($("#clip-error"), message);
    if (message) $("#clip").focus({ preventScroll: false });
  }

  async #fetch(url, { name, source }) {
    const turn = this.#next();
    this.fail("");
    try {
      const blob = await fetchFile(url, this.#end.signal);
      if (turn !== this.#turn) return;
      const file = source ? undefined : new File([blob], name, { type: blob.type });
      await this.#show({ name, source, file }, blob, turn);
    } catch (error) {
      if (turn === this.#turn) this.fail(error.message);
    }
  }

  /** @param {File} file */
  async #take(file) {
    this.fail("");
    const { upload_bytes } = this.limits;
    if (file.size > upload_bytes) {
      const megabytes = (bytes) => (bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0);
      return this.fail(
        `${file.name} has ${megabytes(file.size)} MB; at most ${megabytes(upload_bytes)} MB can be sent.`,
      );
    }
    if (!file.size) return this.fail(`${file.name} is empty.`);
    await this.#show({ name: file.name, file }, file, this.#next());
  }

  /** Begin with another clip: one that is still coming is no longer wanted. */
  #next() {
    this.#end.abort();
    this.#end = new AbortController();
    return ++this.#turn;
  }

  /** @param {{name: string, file?: File, source?: string}} clip @param {Blob} blob */
  async #show(clip, blob, turn) {
    const [length, format] = [await lengthOf(blob), await formatOf(blob)];
    let buffer = null;
    try {
      if ((length ?? 0) <= DRAWN) buffer = await decode(await blob.arrayBuffer());
    } catch {
      // The server reads formats that a browser does not; and says what it cannot read.
    }
    if (turn !== this.#turn) return;
    if (
      !buffer &&
      !length &&
      !/^audio\//.test(blob.type) &&
      !/\.(aiff?|caf|m4a|mp4|wv|au|w64|opus)$/i.test(clip.name)
    ) {
      return this.fail(`${clip.name} is not audio that can be read. WAV, FLAC, OGG and MP3 can.`);
    }
    this.fail(""); // what was said while it was still coming
    this.clip = { ...clip, seconds: buffer?.duration ?? null };
    // Unknown ones have at most this rate, as MP3 and Opus do.
    this.#longest = this.#most(buffer?.numberOfChannels ?? format?.channels ?? 2, format?.rate ?? 48000);
    this.player.clear();
    $("#drop").hidden = true;
    $("#clip-view").hidden = false;
    $("#clip-name").textContent = clip.name;
    for (const id of ["#region", "#region-hint", "#clip-play"]) $(id).hidden = !buffer;
    $("#clip-whole").hidden = true;
    $("#from").value = $("#to").value = "";
    if (buffer) {
      this.player.add("clip", buffer);
      this.player.matched = false;
      this.region.show(Sound.of(buffer), this.#longest);
    } else {
      const most = Math.floor(this.#longest);
      $("#clip-info").textContent = length
        ? `${clock(length)} long, too long to draw. Type the part that is edited, at most ${most} s.`
        : `This browser cannot draw or play this format. All of it is edited, or the part that you type, at most ${most} s.`;
    }
    announce(`${clip.name} is the clip.`);
    this.dispatchEvent(new Event("change"));
  }

  #empty() {
    this.#next();
    this.clip = null;
    this.player.clear();
    this.fail("");
    $("#drop").hidden = false;
    $("#clip-view").hidden = true;
    $("#choose").focus();
    this.dispatchEvent(new Event("change"));
  }

  /** Seconds that will be edited; null where this browser cannot tell. */
  get seconds() {
    return this.clip?.seconds ? this.region.to - this.region.from : null;
  }

  /** Return the seconds that may be edited of a clip with so many channels at so many Hz, to a millisecond. */
  #most(channels, rate) {
    const { clip_seconds, clip_samples } = this.limits;
    return Math.min(clip_seconds, (Math.floor((1000 * clip_samples) / channels / rate) - 1) / 1000);
  }

  /** Take an end that was typed: the other one may have more digits than its field. The picture keeps it within the clip. */
  #typed(field) {
    const { region } = this;
    const seconds = field.valueAsNumber;
    if (!this.clip?.seconds) return;
    if (!Number.isNaN(seconds)) region.set(...(field.id === "from" ? [seconds, region.to] : [region.from, seconds]));
    this.#showPart();
  }

  #showPart() {
    $("#from").value = this.region.from.toFixed(1);
    $("#to").value = this.region.to.toFixed(1);
  }

  /** Add the clip and its region to what is sent. @param {FormData} form */
  fill(form) {
    if (this.clip.source) form.set("source", this.clip.source);
    else form.set("file", this.clip.file, this.clip.name);
    if (!this.clip.seconds) {
      for (const [name, id] of Object.entries({ start: "#from", end: "#to" }))
        if ($(id).value) form.set(name, $(id).value);
    } else if (!this.region.isWhole) {
      form.set("start", this.region.from.toFixed(3));
      const { to } = this.region;
      if (to < this.clip.seconds) form.set("end", (Math.floor(1000 * to) / 1000).toFixed(3)); // never after the clip's
    }
  }

  #regionChanged() {
    if (!this.clip) return;
    const { from, to, isWhole } = this.region;
    this.player.setRange(from, to);
    if (![$("#from"), $("#to")].includes(document.activeElement)) this.#showPart();
    const part = isWhole ? "all of it" : `${clock(from)} to ${clock(to)} of ${clock(this.clip.seconds)}`;
    const cut = !isWhole && this.clip.seconds > this.#longest;
    const most = cut ? ` · at most ${count(Math.floor(this.#longest), "second")} at a time` : "";
    $("#clip-info").textContent = `${(to - from).toFixed(1)} s, ${part}${most}`;
    $("#clip-whole").hidden = isWhole || cut;
    this.dispatchEvent(new Event("change"));
  }

  #playerChanged() {
    const { playing } = this.player;
    setIcon($("#clip-play .icon"), playing ? "pause" : "play");
    $("#clip-play").setAttribute("aria-label", playing ? "Pause" : "Play the region");
    if (playing) this.dispatchEvent(new Event("plays"));
    const follow = () => {
      this.region.setPosition(this.player.position);
      if (this.player.playing) requestAnimationFrame(follow);
    };
    follow();
  }

  /** A file may be let go anywhere on the page. */
  #listenForDrops() {
    const over = $("#drop-here");
    const files = (event) => event.dataTransfer?.types.includes("Files");
    addEventListener("dragover", (event) => {
      if (!files(event)) return;
      event.preventDefault();
      over.hidden = false;
    });
    addEventListener("dragleave", (event) => {
      if (!event.relatedTarget) over.hidden = true;
    });
    addEventListener("drop", (event) => {
      if (!files(event)) return;
      event.preventDefault();
      over.hidden = true;
      const [file, ...more] = event.dataTransfer.files;
      if (file) this.#take(file).then(() => more.length && this.fail("One clip at a time: the first one was taken."));
    });
  }

  #prepareRecording() {
    const why = whyNoMicrophone();
    $("#record").disabled = Boolean(why);
    const here = ["127.0.0.1", "localhost", "[::1]"].includes(location.hostname);
    const goes = here ? "It stays on this machine." : `It is sent to ${location.hostname} and nowhere else.`;
    $("#drop-hint").textContent = why || `WAV, FLAC, OGG, MP3 and more. ${goes}`;
    $("#record").addEventListener("click", () => this.#record());
    $("#recording-stop").addEventListener("click", () => this.#endRecording(true));
    $("#recording-drop").addEventListener("click", () => this.#endRecording(false));
  }

  async #record() {
    this.fail("");
    $("#record").disabled = true;
    try {
      this.#recording = await Recording.begin();
    } catch (error) {
      return this.fail(error.message);
    } finally {
      $("#record").disabled = false;
    }
    $("#drop").hidden = true;
    $("#recording").hidden = false;
    $("#recording-stop").focus();
    announce("Recording.");
    this.#recording.addEventListener("level", ({ detail }) => {
      $("#recording-level").value = Math.sqrt(detail);
      $("#recording-time").textContent = clock(this.#recording?.seconds ?? 0);
      const { seconds, rate } = this.#recording ?? { seconds: 0, rate: 1 };
      if (seconds >= this.#most(1, rate)) this.#endRecording(true);
    });
  }

  #endRecording(keep) {
    const file = this.#recording?.end();
    this.#recording = null;
    $("#recording").hidden = true;
    $("#drop").hidden = false;
    if (!keep) return $("#record").focus();
    if (file) this.#take(file).then(() => $("#clip-play").focus());
    else this.fail("Nothing was recorded.");
  }
}
