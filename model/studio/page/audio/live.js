/** Candidates while they are made: their samples as they come, drawn at once and played by an AudioWorklet. */

import { request } from "../connection.js";
import { Sound, decode } from "./sound.js";

const STALLED = 10_000; // ms without a sample, though more was made, after which a stream is begun anew
const PAUSE = 1_000; // ms until one that ended early is
const STREAMS = 3; // at once; a browser opens six connections to one host, and events need one

/** Return whether this page may play what is still coming: browsers give AudioWorklet to https and localhost only. */
export function canPlayLive() {
  return isSecureContext && typeof AudioWorkletNode === "function";
}

/**
 * The growing candidates of one job. Has a player's play, pause, toggle, seek, select, playing, position and duration.
 * Fires "state", and "samples" whenever more has come.
 */
export class LivePlayer extends EventTarget {
  /** @type {Map<string, Sound>} */
  sounds = new Map();
  tracks = new Map(); // key -> where its samples come from
  selected = "";
  playing = false;
  waiting = false;
  #frame = 0;
  /** @type {Map<string, AbortController>} */
  #streams = new Map();
  /** @type {Map<string, number>} when each stream last gave something, or ended */
  #heard = new Map();
  /** @type {AudioContext | null} */
  #context = null;
  /** @type {AudioWorkletNode | null} */
  #node = null;
  #closed = false;

  /** @param {number} rate of the samples, Hz @param {number} seconds of every candidate, when it is whole */
  constructor(rate, seconds) {
    super();
    this.rate = rate;
    this.duration = seconds;
    this.frames = Math.round(rate * seconds);
    document.addEventListener("visibilitychange", this.#leave);
  }

  get position() {
    return this.#frame / this.rate;
  }

  /**
   * Take a candidate's stream, and how many seconds of it are made by now. The first few are opened at once, others when
   * they are selected; one that has broken off or stalled is opened again.
   */
  add(key, url, made) {
    if (!this.tracks.has(key)) {
      this.tracks.set(key, { url });
      this.sounds.set(key, new Sound(new Float32Array(this.frames), this.rate, 0));
      this.#announce(key, 1);
      if (!this.selected) return this.select(key);
    }
    const stream = this.#streams.get(key);
    const silent = performance.now() - (this.#heard.get(key) ?? -Infinity);
    const behind = Math.round(made * this.rate) > this.sounds.get(key).available;
    if (stream && behind && silent > STALLED) stream.abort();
    else if (!stream && !this.#unseen && silent > PAUSE && (key === this.selected || this.#streams.size < STREAMS)) this.#open(key);
  }

  /** Take the input, which is whole. @param {ArrayBuffer} bytes */
  async addWhole(key, bytes) {
    const buffer = await decode(bytes, this.rate);
    const channels = Array.from({ length: buffer.numberOfChannels }, (_, i) => buffer.getChannelData(i));
    this.tracks.set(key, { channels });
    this.#announce(key, channels.length);
    this.#post({ key, at: 0, samples: channels });
    this.#tell();
  }

  async play() {
    if (this.playing || !canPlayLive()) return;
    this.playing = true;
    this.#tell();
    try {
      await this.#prepare();
      await this.#context?.resume();
    } catch {
      if (this.#closed) return; // it was closed while its module was fetched
      this.playing = false;
      this.#tell();
      const detail = "The player of unfinished sound could not be fetched. Press Play to try again.";
      this.dispatchEvent(new CustomEvent("problem", { detail }));
      return;
    }
    this.dispatchEvent(new CustomEvent("problem", { detail: "" }));
    this.#post({ play: this.playing });
  }

  pause() {
    if (!this.playing) return;
    this.playing = false;
    this.#post({ play: false });
    this.#tell();
  }

  toggle() {
    return this.playing ? this.pause() : this.play();
  }

  seek(seconds) {
    this.#frame = Math.max(0, Math.min(this.frames, Math.round(seconds * this.rate)));
    this.#post({ seek: this.#frame });
    this.#tell();
  }

  select(key) {
    if (!this.tracks.has(key)) return;
    this.selected = key;
    this.#post({ select: key });
    if (this.sounds.has(key)) {
      const others = [...this.#streams.keys()].filter((other) => other !== key);
      if (!this.#streams.has(key) && others.length >= STREAMS) this.#streams.get(others[0])?.abort();
      this.#open(key);
    }
    this.#tell();
  }

  /** Whether nobody sees or hears it: its connections are for the browser's other pages of this studio. */
  get #unseen() {
    return document.hidden && !this.playing;
  }

  #leave = () => {
    if (this.#unseen) for (const stream of this.#streams.values()) stream.abort();
  };

  /** End every stream and give the sound card back. */
  close() {
    this.#closed = true;
    document.removeEventListener("visibilitychange", this.#leave);
    this.playing = false;
    for (const stream of this.#streams.values()) stream.abort();
    this.#node?.disconnect();
    this.#context?.close();
  }

  /** Make the context, at the candidates' own rate so that nothing is converted here, and its player. */
  async #prepare() {
    if (this.#context) return;
    const context = (this.#context = new AudioContext({ sampleRate: this.rate }));
    try {
      await context.audioWorklet.addModule("/page/audio/worklet.js");
    } catch (error) {
      this.#context = null;
      context.close().catch(() => {}); // closed with the player
      throw error;
    }
    if (this.#closed) return;
    this.#node = new AudioWorkletNode(this.#context, "growing-player", { numberOfInputs: 0, outputChannelCount: [2] });
    this.#node.port.onmessage = ({ data }) => {
      this.#frame = data.frame;
      const changed = data.waiting !== this.waiting || data.playing !== this.playing;
      this.waiting = data.waiting;
      if (!data.playing) this.playing = false;
      if (changed) this.#tell();
    };
    for (const [key, track] of this.tracks) {
      this.#announce(key, track.channels?.length ?? 1);
      const sound = this.sounds.get(key);
      this.#post({ key, at: 0, samples: track.channels ?? [sound.samples.slice(0, sound.available)] });
    }
    this.#post({ select: this.selected, seek: this.#frame });
    this.#node.connect(this.#context.destination);
  }

  /** Read a candidate's samples from its beginning, whatever of it was read before. */
  async #open(key) {
    const sound = this.sounds.get(key);
    if (this.#closed || this.#streams.has(key) || sound.available === this.frames) return;
    const stream = new AbortController();
    this.#streams.set(key, stream);
    this.#heard.set(key, performance.now());
    try {
      const response = await request(this.tracks.get(key).url, { signal: stream.signal });
      await this.#read(response.body.getReader(), key, sound);
    } catch {
      // Ended by close or select, or the connection was lost, which the job's own events tell.
    } finally {
      this.#streams.delete(key);
      this.#heard.set(key, performance.now());
    }
  }

  async #read(reader, key, sound) {
    let rest = new Uint8Array(0); // a sample's four bytes may come in two pieces
    let at = 0;
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      this.#heard.set(key, performance.now());
      const bytes = new Uint8Array(rest.length + value.length);
      bytes.set(rest);
      bytes.set(value, rest.length);
      const whole = Math.min(Math.floor(bytes.length / 4), this.frames - at);
      const samples = new Float32Array(bytes.buffer, 0, whole);
      rest = bytes.slice(whole * 4);
      sound.samples.set(samples, at);
      this.#post({ key, at, samples: [samples] });
      at += whole;
      sound.available = Math.max(sound.available, at);
      this.dispatchEvent(new CustomEvent("samples", { detail: key }));
    }
  }

  #announce(key, channels) {
    this.#post({ add: key, channels, total: this.frames });
  }

  #post(message) {
    this.#node?.port.postMessage(message);
  }

  #tell() {
    this.dispatchEvent(new Event("state"));
  }
}
