/** Recordings in memory: decoding, sums to mono, and the peaks that a waveform shows. */

/** Everything is played at this rate, whatever the files have, so that one position means one moment in all of them. */
export const RATE = 48000;

/** One recording as it is drawn: mono samples, of which the first `available` are there. */
export class Sound {
  /** @param {Float32Array} samples @param {number} rate @param {number} [available] */
  constructor(samples, rate, available = samples.length) {
    this.samples = samples;
    this.rate = rate;
    this.available = available;
  }

  /** Return the mean of a buffer's channels. @param {AudioBuffer} buffer */
  static of(buffer) {
    const samples = new Float32Array(buffer.length);
    for (let channel = 0; channel < buffer.numberOfChannels; channel++) {
      const data = buffer.getChannelData(channel);
      for (let i = 0; i < samples.length; i++) samples[i] += data[i] / buffer.numberOfChannels;
    }
    return new Sound(samples, buffer.sampleRate);
  }

  get seconds() {
    return this.samples.length / this.rate;
  }
}

/**
 * Decode a file at `rate`. Needs no sound card and no click: it asks no AudioContext that plays.
 * @param {ArrayBuffer} bytes @param {number} [rate]
 * @returns {Promise<AudioBuffer>}
 */
export function decode(bytes, rate = RATE) {
  return new OfflineAudioContext(1, 1, rate).decodeAudioData(bytes);
}

/** Return the seconds of a file, or null if this browser cannot tell, without decoding it. @param {Blob} blob */
export async function lengthOf(blob) {
  const url = URL.createObjectURL(blob);
  const audio = new Audio();
  try {
    return await new Promise((resolve) => {
      audio.addEventListener("loadedmetadata", () => resolve(Number.isFinite(audio.duration) ? audio.duration : null));
      audio.addEventListener("error", () => resolve(null));
      audio.preload = "metadata";
      audio.src = url;
    });
  } finally {
    audio.removeAttribute("src");
    URL.revokeObjectURL(url);
  }
}

/**
 * Return the channels and the rate that a WAV or FLAC file has of itself (decoded, it has RATE), or null for other files.
 * @param {Blob} blob
 */
export async function formatOf(blob) {
  const head = new DataView(await blob.slice(0, 1 << 16).arrayBuffer());
  const word = (at) => (at + 4 <= head.byteLength ? head.getUint32(at) : 0);
  if (word(0) === 0x664c6143 && head.byteLength >= 22)
    return { channels: ((head.getUint8(20) >> 1) & 7) + 1, rate: word(18) >>> 12 }; // "fLaC", then STREAMINFO
  if (word(8) !== 0x57415645) return null; // "WAVE"
  for (let at = 12; at + 16 <= head.byteLength; at += 8 + 2 * Math.ceil(head.getUint32(at + 4, true) / 2)) {
    if (word(at) === 0x666d7420) // "fmt "
      return { channels: head.getUint16(at + 10, true), rate: head.getUint32(at + 12, true) };
  }
  return null;
}

/** Return a buffer's root mean square over all channels, and its loudest sample. @param {AudioBuffer} buffer */
export function levels(buffer) {
  let squares = 0;
  let peak = 0;
  for (let channel = 0; channel < buffer.numberOfChannels; channel++) {
    for (const sample of buffer.getChannelData(channel)) {
      squares += sample * sample;
      peak = Math.max(peak, Math.abs(sample));
    }
  }
  return { rms: Math.sqrt(squares / (buffer.length * buffer.numberOfChannels || 1)), peak };
}

/** Lowest and highest sample of each of `columns` stretches of a recording; grows with it. */
export class Peaks {
  constructor(columns = 960) {
    this.low = new Float32Array(columns);
    this.high = new Float32Array(columns);
    this.columns = columns;
    this.ready = 0;
    this.loudest = 0;
  }

  /** Take what has come since the last call. @param {Sound} sound */
  extend(sound) {
    const total = sound.samples.length;
    const whole = sound.available === total;
    while (this.ready < this.columns) {
      const from = Math.floor((this.ready * total) / this.columns);
      const to = Math.max(from + 1, Math.floor(((this.ready + 1) * total) / this.columns));
      if (to > sound.available && !whole) return;
      let low = 0;
      let high = 0;
      for (let i = from; i < Math.min(to, total); i++) {
        const sample = sound.samples[i];
        if (sample < low) low = sample;
        else if (sample > high) high = sample;
      }
      this.low[this.ready] = low;
      this.high[this.ready] = high;
      this.loudest = Math.max(this.loudest, high, -low);
      this.ready++;
    }
  }
}

/**
 * Return samples as a 16-bit WAV file.
 * @param {Float32Array} samples mono @param {number} rate
 */
export function wavFile(samples, rate) {
  const view = new DataView(new ArrayBuffer(44 + samples.length * 2));
  const text = (at, word) => [...word].forEach((letter, i) => view.setUint8(at + i, letter.charCodeAt(0)));
  text(0, "RIFF");
  view.setUint32(4, 36 + samples.length * 2, true);
  text(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true); // PCM
  view.setUint16(22, 1, true); // channels
  view.setUint32(24, rate, true);
  view.setUint32(28, rate * 2, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  text(36, "data");
  view.setUint32(40, samples.length * 2, true);
  samples.forEach((sample, i) =>
    view.setInt16(44 + i * 2, Math.round(Math.max(-1, Math.min(1, sample)) * 32767), true),
  );
  return new Blob([view], { type: "audio/wav" });
}
