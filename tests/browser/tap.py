"""What the page sends to the sound card, sample for sample: a worklet between its last node and the card."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

Samples = npt.NDArray[np.float32]

WORKLET = """
registerProcessor("tap", class extends AudioWorkletProcessor {
  constructor() {
    super();
    this.port.onmessage = () => this.port.postMessage("mark");
  }

  process([input]) {
    this.port.postMessage(input.length ? input[0].slice() : new Float32Array(128));
    return true;
  }
});
"""
SCRIPT = """
(() => {
  window.taps = {};
  const connect = AudioNode.prototype.connect;
  const tapOf = (context) => {
    if (context.bus) return context.bus;
    const bus = (context.bus = new GainNode(context));
    connect.call(bus, context.destination);
    const tap = (window.taps[context.sampleRate] = { blocks: [], context });
    const module = URL.createObjectURL(new Blob([window.tapWorklet], { type: "text/javascript" }));
    context.audioWorklet?.addModule(module).then(() => {
      const options = { numberOfOutputs: 0, channelCount: 2, channelCountMode: "explicit" };
      tap.node = new AudioWorkletNode(context, "tap", options);
      tap.node.port.onmessage = ({ data }) => (data === "mark" ? tap.marked() : tap.blocks.push(data));
      connect.call(bus, tap.node);
    });
    return bus;
  };
  AudioNode.prototype.connect = function (to, ...rest) {
    const sounds = to instanceof AudioDestinationNode && !(this.context instanceof OfflineAudioContext);
    return connect.call(this, sounds ? tapOf(this.context) : to, ...rest);
  };
})();
"""
ENCODED = """
  const octets = new Uint8Array(samples.buffer);
  let text = "";
  for (let i = 0; i < octets.length; i += 32768) text += String.fromCharCode(...octets.subarray(i, i + 32768));
  return btoa(text);
"""
TAPPED = f"""(rate) => {{
  const blocks = window.taps[rate]?.blocks ?? [];
  const samples = new Float32Array(128 * blocks.length);
  blocks.forEach((block, i) => samples.set(block, 128 * i));
  {ENCODED}
}}"""
DECODED = f"""async ([url, rate]) => {{
  const bytes = await (await fetch(url)).arrayBuffer();
  const samples = (await new OfflineAudioContext(1, 1, rate).decodeAudioData(bytes)).getChannelData(0);
  {ENCODED}
}}"""


def install(context: BrowserContext) -> None:
    """Tap every page of a context, which must have been made with `bypass_csp`: the worklet is none of the page's."""
    context.add_init_script(f"window.tapWorklet = {json.dumps(WORKLET)};")
    context.add_init_script(SCRIPT)


def heard(page: Page, rate: int = 48000) -> Samples:
    """Return what the left speaker got since the tap was there, at one of the page's rates."""
    return np.frombuffer(base64.b64decode(page.evaluate(TAPPED, rate)), np.float32)


MARK = """async ([rate, forget]) => {
  const tap = window.taps[rate];
  if (!tap) return 0;
  if (tap.node) {
    await new Promise((resolve) => {
      tap.marked = resolve;
      tap.node.port.postMessage("mark");
    });
  }
  if (forget) tap.blocks = [];
  return tap.blocks.length * 128;
}"""


def mark(page: Page, rate: int = 48000) -> int:
    """Return how many samples were heard when what the page has done so far took effect, all of which have come."""
    found: int = page.evaluate(MARK, [rate, False])
    return found


def forget(page: Page, rate: int = 48000) -> None:
    """Begin again: what was heard so far is left out."""
    page.evaluate(MARK, [rate, True])


def decoded(page: Page, url: str, rate: int = 48000) -> Samples:
    """Return a file's left channel as the browser decodes it."""
    return np.frombuffer(base64.b64decode(page.evaluate(DECODED, [url, rate])), np.float32)


def place(part: Samples, whole: Samples) -> tuple[int, float]:
    """Return where a part lies in a recording, and the factor that it was played with.

    Asserts that it lies there, to float32's rounding.
    """
    size = 1 << int(np.ceil(np.log2(len(whole) + len(part))))
    products = np.fft.irfft(np.fft.rfft(whole, size) * np.conj(np.fft.rfft(part, size)), size)
    energies = np.convolve(np.square(whole, dtype=np.float64), np.ones(len(part)), "valid")
    at = int(np.argmax(products[: len(energies)] / np.sqrt(energies + 1e-9)))
    there = whole[at : at + len(part)].astype(np.float64)
    factor = float(part @ there / (there @ there))
    np.testing.assert_allclose(part, factor * there, atol=2e-6)
    return at, factor
