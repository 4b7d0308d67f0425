/**
 * Plays several recordings of one length at once and lets one of them be heard: all start at one sample of one clock, so
 * that a switch changes nothing but which one is heard.
 */

import { RATE, levels } from "./sound.js";

const RAMP = 0.008; // s; short enough for a switch, long enough not to click
const LEAD = 0.03; // s from the call to the first sample, so that every source is ready
const QUIETEST = 0.001; // RMS of -60 dB: below it there is nothing to match

/** @type {AudioContext | null} */
let context = null;

/** Return the context that all players share. Made at the first sound that is played: browsers wait for a click. */
export function audioContext() {
  context ??= new AudioContext({ sampleRate: RATE, latencyHint: "interactive" });
  return context;
}

/** @type {Player | null} */
let sounding = null;

/** Fires "state" (played, paused, ended, switched, loaded). Positions are seconds in the recordings. */
export class Player extends EventTarget {
  /** @type {Map<string, {buffer: AudioBuffer, rms: number, peak: number}>} */
  tracks = new Map();
  selected = "";
  loop = false;
  matched = true;
  duration = 0;
  #from = 0; // the part that is played, in frames
  #to = 0;
  #at = 0; // frame where it stands while it is paused
  /** @type {Run | null} */
  #run = null;
  #starting = 0; // counts calls of play, so that pause ends one that still waits

  get playing() {
    return this.#run !== null;
  }

  /** Add a recording. While others play it joins them, at their sample. @param {AudioBuffer} buffer */
  add(key, buffer) {
    this.tracks.set(key, { buffer, ...levels(buffer) });
    const frames = Math.max(...[...this.tracks.values()].map((track) => track.buffer.length));
    if (this.#to === Math.round(this.duration * RATE)) this.#to = frames;
    this.duration = frames / RATE;
    if (!this.selected) this.selected = key;
    this.#run?.add(key, this.tracks.get(key).buffer);
    this.#mix();
    this.#tell();
  }

  /** Forget every recording. */
  clear() {
    this.pause();
    this.tracks.clear();
    this.selected = "";
    this.duration = this.#from = this.#to = this.#at = 0;
    this.#tell();
  }

  /** Play only a part, in seconds. */
  setRange(from, to) {
    this.#from = Math.round(from * RATE);
    this.#to = Math.max(this.#from + 1, Math.round(to * RATE));
    if (this.playing) this.#start(this.#inside(this.#frame()));
    else this.#at = this.#inside(this.#at);
    this.#tell();
  }

  async play() {
    if (this.playing || !this.tracks.size) return;
    const turn = ++this.#starting;
    await audioContext().resume();
    if (turn !== this.#starting || this.playing || !this.tracks.size) return;
    if (sounding !== this) sounding?.pause();
    sounding = this;
    this.#start(this.#inside(this.#at));
    this.#tell();
  }

  pause() {
    this.#starting++;
    if (!this.#run) return;
    this.#at = this.#frame();
    this.#run.stop();
    this.#run = null;
    this.#tell();
  }

  toggle() {
    return this.playing ? this.pause() : this.play();
  }

  /** Go to a position, in seconds. */
  seek(seconds) {
    const frame = Math.max(this.#from, Math.min(this.#to, Math.round(seconds * RATE)));
    if (this.playing) this.#start(this.#inside(frame));
    else this.#at = frame;
    this.#tell();
  }

  /** Seconds from the beginning of the recordings to what is heard now. */
  get position() {
    return (this.#run ? this.#frame() : this.#at) / RATE;
  }

  /** Hear another recording, at the same sample. */
  select(key) {
    if (!this.tracks.has(key)) return;
    this.selected = key;
    this.#mix();
    this.#tell();
  }

  setLoop(on) {
    const frame = this.#frame();
    this.loop = on;
    if (this.playing) this.#start(this.#inside(frame));
    this.#tell();
  }

  setMatched(on) {
    this.matched = on;
    this.#mix();
    this.#tell();
  }

  /**
   * Return the factor that a recording is played with. Levels are matched to that of the input, "0", or to the loudest
   * that all of them reach without clipping. What is as good as silent is left as it is.
   */
  gain(key) {
    const track = this.tracks.get(key);
    if (!this.matched || !track || track.rms < QUIETEST) return 1;
    const heard = [...this.tracks.values()].filter((other) => other.rms >= QUIETEST);
    const input = this.tracks.get("0")?.rms || Infinity;
    const level = Math.min(input, ...heard.map((other) => other.rms / Math.max(other.peak, 1e-6)));
    return level / track.rms;
  }

  #inside(frame) {
    return frame < this.#from || frame >= this.#to ? this.#from : frame;
  }

  #frame() {
    return this.#run ? this.#run.frame() : this.#at;
  }

  #start(frame) {
    this.#run?.stop();
    const run = new Run(audioContext(), { from: this.#from, to: this.#to, at: frame, loop: this.loop });
    run.onended = () => {
      if (this.#run !== run) return;
      this.#run = null;
      this.#at = this.#from;
      this.#tell();
    };
    this.#run = run;
    for (const [key, track] of this.tracks) run.add(key, track.buffer);
    this.#mix(0);
  }

  #mix(ramp = RAMP) {
    for (const key of this.tracks.keys()) this.#run?.setGain(key, key === this.selected ? this.gain(key) : 0, ramp);
  }

  #tell() {
    this.dispatchEvent(new Event("state"));
  }
}

/** One start of all recordings, from one frame at one time, to the end or over and over. */
class Run {
  /** @type {Map<string, {source: AudioBufferSourceNode, gain: GainNode}>} */
  #sources = new Map();
  onended = () => {};

  constructor(context, { from, to, at, loop }) {
    Object.assign(this, { context, from, to, at, loop });
    this.start = Math.ceil((context.currentTime + LEAD) * RATE); // the context's frame at which `at` sounds
    this.fade = new GainNode(context, { gain: 0 });
    this.fade.gain.setValueAtTime(0, this.start / RATE);
    this.fade.gain.linearRampToValueAtTime(1, this.start / RATE + RAMP / 4);
    this.fade.connect(context.destination);
  }

  /** Return the recordings' frame that sounds at a frame of the context. */
  frame(now = Math.round(this.context.currentTime * RATE)) {
    const on = this.at + Math.max(0, now - this.start);
    if (!this.loop) return Math.min(on, this.to);
    return on < this.to ? on : this.from + ((on - this.from) % (this.to - this.from));
  }

  add(key, buffer) {
    const source = new AudioBufferSourceNode(this.context, { buffer: this.#filled(buffer) });
    const gain = new GainNode(this.context, { gain: 0 });
    source.connect(gain).connect(this.fade);
    const now = Math.ceil((this.context.currentTime + LEAD) * RATE);
    const start = Math.max(this.start, now);
    const at = this.frame(start);
    if (this.loop) {
      Object.assign(source, { loop: true, loopStart: this.from / RATE, loopEnd: this.to / RATE });
      source.start(start / RATE, at / RATE);
    } else {
      source.start(start / RATE, at / RATE, Math.max(0, this.to - at) / RATE);
    }
    if (!this.#sources.size) source.onended = () => this.onended();
    this.#sources.set(key, { source, gain });
  }

  /** Recordings that end early go on silently, so that a loop is equally long in all of them. */
  #filled(buffer) {
    if (buffer.length >= this.to) return buffer;
    const { numberOfChannels, sampleRate } = buffer;
    const filled = new AudioBuffer({ length: this.to, numberOfChannels, sampleRate });
    for (let i = 0; i < numberOfChannels; i++) filled.copyToChannel(buffer.getChannelData(i), i);
    return filled;
  }

  setGain(key, value, ramp) {
    const param = this.#sources.get(key)?.gain.gain;
    if (!param) return;
    const now = this.context.currentTime;
    param.cancelScheduledValues(now);
    param.setValueAtTime(ramp ? param.value : value, now);
    param.linearRampToValueAtTime(value, now + ramp);
  }

  stop() {
    const now = this.context.currentTime;
    this.fade.gain.cancelScheduledValues(now);
    this.fade.gain.setValueAtTime(this.fade.gain.value, now);
    this.fade.gain.linearRampToValueAtTime(0, now + RAMP);
    for (const { source } of this.#sources.values()) {
      source.onended = null;
      source.stop(now + RAMP);
    }
    setTimeout(() => this.fade.disconnect(), 200);
  }
}
