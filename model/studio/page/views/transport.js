/** The bar that plays: one playhead for everything that is compared, and a button for each of it. */

import { $, clock, h, icon, setIcon } from "../dom.js";

/**
 * Drives a Player, or a LivePlayer while a job runs. Fires "move" on every frame while it plays, and "state".
 */
export class Transport extends EventTarget {
  /** @type {any} */
  player = null;
  chosen = false; // whether a person chose what is heard
  /** @type {[string, string][]} keys and names */
  #tracks = [];
  #tell = () => this.#changed();

  constructor() {
    super();
    const press = { type: "button", onpointerdown: (event) => event.preventDefault() }; // the focus stays where it is
    this.playButton = h("button", { ...press, class: "play big", onclick: () => this.player?.toggle() }, icon("play"));
    this.time = h("span", { class: "digits time" });
    this.seek = h("input", { type: "range", min: "0", max: "1", step: "0.01", value: "0", "aria-label": "Position" });
    this.seek.addEventListener("input", () => this.player?.seek(Number(this.seek.value)));
    this.switches = h("div", { class: "segments", role: "group", "aria-label": "What is heard" });
    this.residual = h(
      "button",
      { ...press, class: "quiet", "aria-pressed": "false", onclick: () => this.toggleResidual() },
      icon("residual"),
      h("span", {}, "Taken out"),
    );
    this.match = h(
      "button",
      {
        ...press,
        class: "quiet",
        "aria-pressed": "true",
        onclick: () => this.toggleMatch(),
        title: "Play everything equally loud, so that louder does not seem better",
      },
      icon("level"),
      h("span", {}, "Match levels"),
    );
    this.loop = h(
      "button",
      { ...press, class: "quiet", "aria-pressed": "false", onclick: () => this.toggleLoop() },
      icon("loop"),
      h("span", {}, "Loop"),
    );
    $("#transport").append(
      this.playButton,
      this.time,
      this.seek,
      this.switches,
      h("div", { class: "row toggles" }, this.residual, this.match, this.loop),
    );
    this.press = press;
  }

  /** Drive another player. Takes over what was chosen on the bar. */
  use(player) {
    this.player?.removeEventListener("state", this.#tell);
    this.player = player;
    if (player) {
      player.setLoop?.(this.loop.getAttribute("aria-pressed") === "true");
      player.setMatched?.(this.match.getAttribute("aria-pressed") === "true");
      player.addEventListener("state", this.#tell);
      this.#changed();
    } else this.chosen = false;
    $("#transport").hidden = !player;
  }

  /** Show a button for each recording. @param {[string, string][]} tracks keys and names */
  setTracks(tracks) {
    if (JSON.stringify(tracks) === JSON.stringify(this.#tracks)) return;
    this.#tracks = tracks;
    this.switches.replaceChildren(
      ...tracks.map(([key, name]) => {
        const button = h(
          "button",
          { ...this.press, onclick: () => this.select(key), "aria-label": name },
          key === "0" ? name : key,
        );
        button.dataset.key = key;
        return button;
      }),
    );
    this.#changed();
  }

  /** Hear a recording at the same place. Returns whether there is one. */
  select(key) {
    if (!this.player?.tracks.has(key)) return false;
    this.chosen = true;
    this.player.select(key);
    return true;
  }

  /** Hear what the selected candidate took out, or the candidate again. Returns whether there is such a thing. */
  toggleResidual() {
    const now = this.player?.selected ?? "";
    if (now.endsWith("r")) return this.select(now.slice(0, -1));
    const only = this.#tracks.length === 2 ? "1" : "";
    return this.select(`${now}r`) || (now === "0" && only !== "" && this.select(`${only}r`));
  }

  toggleMatch() {
    const on = this.match.getAttribute("aria-pressed") !== "true";
    this.match.setAttribute("aria-pressed", String(on));
    this.player?.setMatched?.(on);
  }

  toggleLoop() {
    const on = this.loop.getAttribute("aria-pressed") !== "true";
    this.loop.setAttribute("aria-pressed", String(on));
    this.player?.setLoop?.(on);
  }

  #changed() {
    const { player } = this;
    if (!player) return;
    const { selected, playing, duration } = player;
    setIcon(this.playButton.firstChild, playing ? "pause" : "play");
    this.playButton.setAttribute("aria-label", playing ? "Pause" : "Play");
    this.seek.max = String(duration || 1);
    for (const button of this.switches.children) {
      const key = button.dataset.key;
      button.setAttribute("aria-pressed", String(selected === key || selected === `${key}r`));
      button.disabled = !player.tracks.has(key);
    }
    this.residual.hidden = ![...player.tracks.keys()].some((key) => key.endsWith("r"));
    this.residual.setAttribute("aria-pressed", String(selected.endsWith("r")));
    this.match.hidden = this.loop.hidden = !player.setMatched;
    this.dispatchEvent(new Event("state"));
    this.#follow();
  }

  #follow() {
    const { player } = this;
    const { position, duration } = player;
    this.time.textContent = `${clock(position)} / ${clock(duration)}`;
    this.seek.value = String(position);
    this.seek.setAttribute("aria-valuetext", `${clock(position)} of ${clock(duration)}`);
    this.dispatchEvent(new Event("move"));
    if (player.playing && !this.follows) {
      this.follows = true;
      requestAnimationFrame(() => {
        this.follows = false;
        if (this.player) this.#follow();
      });
    }
  }
}
