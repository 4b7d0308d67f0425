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
    const context = (recording.context = new AudioContext());
    await context.audioWorklet.addModule("/page/audio/worklet.js");
    const node = new AudioWorkletNode(context, "recorder", { numberOfOutputs: 0 });
    node.port.onmessage = ({ data }) => recording.#take(data.samples);
    context.createMediaStreamSource(recording.stream).connect(node);
    return recording;
  }

  get seconds() {
    return this.#frames / this.context.sampleRate;
  }

  #take(samples) {
    this.#blocks.push(samples);
    this.#frames += samples.length;
    const loudest = samples.reduce((most, sample) => Math.max(most, Math.abs(sample)), 0);
    this.dispatchEvent(new CustomEvent("level", { detail: loudest }));
  }

  /** Stop and return the file, or null if nothing was recorded. @returns {File | null} */
  end() {
    for (const track of this.stream.getTracks()) track.stop();
    const rate = this.context.sampleRate;
    this.context.close();
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
