/** Records from the microphone, as the room sounds: nothing is filtered, and the file is plain PCM. */

import { wavFile } from "./sound.js";

/** Return why this page cannot record, or nothing. */
export function whyNoMicrophone() {
  if (!isSecureContext)
    return "Browsers give the microphone to https and to this machine’s own address only, so recording is off here.";
  if (!navigator.mediaDevices?.getUserMedia || typeof AudioWorkletNode !== "function")
    return "This browser cannot record.";
  return "";
}

const REFUSED = {
  NotAllowedError: "The browser blocks the microphone for this page; allow it in the site settings.",
  NotFoundError: "No microphone was found.",
};

/** One recording. Fires "level" with the loudest sample of the last block. */
export class Recording extends EventTarget {
  /** @type {Float32Array[]} */
  #blocks = [];
  #frames = 0;

  /** Ask for the microphone and begin. Throws Error with a sentence where there is none, or it is refused. */
  static async begin() {
    const recording = new Recording();
    const audio = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
    try {
      recording.stream = await navigator.mediaDevices.getUserMedia({ audio });
    } catch (error) {
      throw new Error(REFUSED[error.name] ?? `The microphone cannot be used: ${error.message}`);
    }
    try {
      await recording.#listen();
    } catch (error) {
      recording.#close();
      throw new Error(`Recording cannot begin: ${error.message}`);
    }
    return recording;
  }

  async #listen() {
    this.context = new AudioContext();
    await this.context.audioWorklet.addModule("/page/audio/worklet.js");
    const node = new AudioWorkletNode(this.context, "recorder", { numberOfOutputs: 0 });
    node.port.onmessage = ({ data }) => this.#take(data.samples);
    this.context.createMediaStreamSource(this.stream).connect(node);
  }

  /** Give the microphone back. */
  #close() {
    for (const track of this.stream.getTracks()) track.stop();
    this.context?.close();
  }

  get rate() {
    return this.context.sampleRate;
  }

  get seconds() {
    return this.#frames / this.rate;
  }

  #take(samples) {
    this.#blocks.push(samples);
    this.#frames += samples.length;
    const loudest = samples.reduce((most, sample) => Math.max(most, Math.abs(sample)), 0);
    this.dispatchEvent(new CustomEvent("level", { detail: loudest }));
  }

  /** Stop and return the file, or null if nothing was recorded. @returns {File | null} */
  end() {
    const { rate } = this;
    this.#close();
    if (!this.#frames) return null;
    const samples = new Float32Array(this.#frames);
    let at = 0;
    for (const block of this.#blocks) {
      samples.set(block, at);
      at += block.length;
    }
    return new File([wavFile(samples, rate)], "recording.wav", { type: "audio/wav" });
  }
}
