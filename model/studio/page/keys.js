/** What the keyboard does outside of fields, and the list of it. */

import { $ } from "./dom.js";

const TYPES = "input:not([type=radio], [type=checkbox], [type=range]), textarea, select";
const PRESSED = "button, a[href], summary, input[type=checkbox], input[type=radio]:not(:checked)"; // what Space already means something to
const MOVED = "input[type=radio], input[type=range], [role=slider]"; // what arrows already mean something to

/**
 * @param {{transport: import("./views/transport.js").Transport, player: () => any, say: (text: string) => void}} parts
 *   `player` returns what Space plays
 */
export function listenForKeys({ transport, player, say }) {
  const help = $("#help");
  $("#help-open").addEventListener("click", () => help.showModal());
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || help.open || event.defaultPrevented) return;
    const at = /** @type {Element} */ (event.target);
    if (at.matches(TYPES)) return;
    if (event.key === " " ? act(" ", event, at.closest(PRESSED)) : act(event.key, event, at.closest(MOVED))) {
      event.preventDefault();
    }
  });

  /** Do what a key stands for; `taken` is the element that has its own use for Space or for arrows. */
  function act(key, event, taken) {
    const step = event.shiftKey ? 5 : 1;
    if (/^[0-9]$/.test(key)) return transport.select(key) || sayNone(`There is no candidate ${key}.`);
    switch (key) {
      case " ":
        if (taken || event.repeat) return false;
        player()?.toggle();
        return true;
      case "ArrowLeft":
      case "ArrowRight":
        if (taken) return false;
        step_(key === "ArrowLeft" ? -step : step);
        return true;
      case "Home":
        if (taken) return false;
        player()?.seek(0);
        return true;
      case "r":
      case "R":
        return (
          transport.toggleResidual() ||
          sayNone("Only candidates made with “Keep the input’s own sound” have a residual.")
        );
      case "l":
      case "L":
        transport.toggleLoop();
        return true;
      case "m":
      case "M":
        transport.toggleMatch();
        return true;
      case "e":
      case "E":
        $("#prompt").focus();
        return true;
      case "?":
        help.showModal();
        return true;
      default:
        return false;
    }
  }

  function step_(seconds) {
    const playing = player();
    playing?.seek(playing.position + seconds);
  }

  function sayNone(text) {
    say(text);
    return true;
  }
}
