/** What runs on the audio thread: a player for samples that are still coming, and a recorder. */

const FADE = 256; // frames of a switch between two recordings
const AHEAD = 0.4; // s that must have come before it goes on after it ran dry

/**
 * Plays one of several recordings that grow. Messages in: {add: key, channels, total}, {key, at, samples} (more of one),
 * {play}, {seek: frame}, {select: key}. Messages out: {frame, playing, waiting}.
 */
class GrowingPlayer extends AudioWorkletProcessor {
  tracks = new Map();
  frame = 0;
  playing = false;
  waiting = false;
  selected = "";
  before = ""; // what fades out
  fade = 0; // frames of the fade that are left
  told = 0;

  constructor() {
    super();
    this.port.onmessage = ({ data }) => this.take(data);
  }

  take(data) {
    if ("add" in data) {
      const channels = Array.from({ length: data.channels }, () => new Float32Array(data.total));
      this.tracks.set(data.add, { channels, available: 0, total: data.total });
    } else if ("samples" in data) {
      const track = this.tracks.get(data.key);
      data.samples.forEach((samples, i) => track.channels[i].set(samples.subarray(0, track.total - data.at), data.at));
      // A stream that begins anew repeats what is here.
      track.available = Math.max(track.available, Math.min(track.total, data.at + data.samples[0].length));
    }
    if ("seek" in data) this.frame = data.seek;
    if ("select" in data && data.select !== this.selected) {
      this.before = this.selected;
      this.fade = FADE;
      this.selected = data.select;
    }
    if ("play" in data) this.playing = data.play;
    this.tell();
  }

  tell() {
    this.port.postMessage({ frame: this.frame, playing: this.playing, waiting: this.waiting });
  }

  /** Return how many of `wanted` frames can be played now; none until enough has come. */
  ready(track, wanted) {
    if (!track) return 0;
    const there = track.available - this.frame;
    const whole = track.available === track.total;
    if (this.waiting && !whole && there < AHEAD * sampleRate) return 0;
    return whole || there >= wanted ? Math.min(wanted, there) : 0;
  }

  process(_inputs, [output]) {
    const track = this.tracks.get(this.selected);
    const size = output[0].length;
    if (this.playing) {
      const frames = this.ready(track, size);
      const waiting = frames <= 0 && (!track || this.frame < track.total);
      if (track && this.frame >= track.total) {
        this.playing = false;
        this.frame = 0;
      } else if (frames > 0) {
        this.mix(output, frames, track);
        this.frame += frames;
      }
      if (waiting !== this.waiting || !this.playing || this.told++ % 16 === 0) {
        this.waiting = waiting;
        this.tell();
      }
    }
    return true;
  }

  mix(output, frames, track) {
    const before = this.fade > 0 ? this.tracks.get(this.before) : undefined;
    for (let c = 0; c < output.length; c++) {
      const now = track.channels[Math.min(c, track.channels.length - 1)];
      const then = before?.channels[Math.min(c, before.channels.length - 1)];
      for (let i = 0; i < frames; i++) {
        const share = Math.max(0, this.fade - i) / FADE;
        output[c][i] = now[this.frame + i] * (1 - share) + (then ? then[this.frame + i] * share : 0);
      }
    }
    this.fade = Math.max(0, this.fade - frames);
  }
}

/** Hands on what comes in, in blocks of 2048 samples: {samples}. */
class Recorder extends AudioWorkletProcessor {
  block = new Float32Array(2048);
  filled = 0;

  process([input]) {
    if (input.length) {
      for (let i = 0; i < input[0].length; i++) {
        let sum = 0;
        for (const channel of input) sum += channel[i];
        this.block[this.filled++] = sum / input.length;
      }
      if (this.filled === this.block.length) {
        this.port.postMessage({ samples: this.block }, [this.block.buffer]);
        this.block = new Float32Array(2048);
        this.filled = 0;
      }
    }
    return true;
  }
}

registerProcessor("growing-player", GrowingPlayer);
registerProcessor("recorder", Recorder);
