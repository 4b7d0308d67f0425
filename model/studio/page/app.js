/** The studio's page: what its parts tell each other. */

import { isFinal, models as fetchModels, openSession, signIn } from "./api.js";
import { canPlayLive } from "./audio/live.js";
import { whyNoMicrophone } from "./audio/recorder.js";
import { connection } from "./connection.js";
import { $, announce, h, say } from "./dom.js";
import { listenForKeys } from "./keys.js";
import { AskPanel, short } from "./views/ask.js";
import { ClipPanel } from "./views/clip.js";
import { HistoryPanel } from "./views/history.js";
import { JobPanel } from "./views/job.js";

const clip = new ClipPanel();
const ask = new AskPanel(clip);
const panel = new JobPanel();
const past = new HistoryPanel();
const { transport } = panel.comparison;
let last = "clip"; // what Space plays: the clip or the job
let modelTimer = 0;
let started = false; // whether everything was there once

/** Show the models, and look again while one of them is being loaded. */
async function refreshModels() {
  clearTimeout(modelTimer);
  const { data, limits } = await fetchModels();
  const chosen = data.find(({ id }) => id === $("#model").value) ?? data[0];
  panel.models = data;
  clip.limits = limits;
  if ($("#model").children.length !== data.length) {
    $("#model").replaceChildren(...data.map(({ id }) => h("option", { value: id }, id)));
  }
  $("#model").value = chosen.id;
  showModel(chosen, limits);
  const busy =
    panel.job && !isFinal(panel.job) && data.some(({ id, state }) => id === panel.job.model && state !== "ready");
  if (busy || data.some(({ state }) => state === "loading")) lookAgain(1000);
}

function lookAgain(milliseconds) {
  clearTimeout(modelTimer);
  modelTimer = setTimeout(() => refreshModels().catch(() => lookAgain(5000)), milliseconds);
}

function showModel(model, limits) {
  const says = { "not loaded": "", loading: "loading…", ready: "", failed: model.error ?? "could not be loaded" };
  $("#model-state").textContent = says[model.state] ?? model.state;
  $("#model-state").classList.toggle("failed", model.state === "failed");
  $("#model").title = [model.description, model.license && `License: ${model.license}`].filter(Boolean).join("\n");
  ask.setModel(model, limits);
}

$("#model").addEventListener("change", () => refreshModels().catch(failed));

/** Show a job, and let the address say so, so that reload and the back button find it. */
async function open(id, push = true) {
  const shown = panel.open(id);
  past.setOpen(id);
  last = "job";
  if (push && location.hash !== `#job=${id}`) history.pushState(null, "", `#job=${id}`);
  await shown;
}

function close() {
  panel.close();
  past.setOpen("");
  last = "clip";
}

/** Return the job that the address names. */
const named = () => new URLSearchParams(location.hash.slice(1)).get("job");

function openFromAddress() {
  const id = named();
  if (id) open(id, false);
  else close();
}

addEventListener("popstate", openFromAddress);

$(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address names the job
  $("#clip").focus();
});

/** Fill the form, and take the clip, of an earlier job. */
async function useAgain(job) {
  const served = [...$("#model").options].some(({ value }) => value === job.model);
  if (served) $("#model").value = job.model;
  await refreshModels().catch(failed);
  ask.restore(job);
  if (!served) ask.note(`The model of that edit, ${job.model.replace(" (not served)", "")}, is not served now.`);
  await clip.takeSource(`${job.id}/input`, job.input.file, job.input.name);
  $("#ask-title").scrollIntoView({ block: "start" });
  $("#edit").focus({ preventScroll: true });
  announce(`The settings of ${short(job.prompt)} are filled in.`);
}

ask.addEventListener("submitted", async ({ detail: job }) => {
  clip.player.pause();
  past.update(job);
  await open(job.id);
  $("#listen").scrollIntoView({ block: "start" });
  refreshModels().catch(() => {});
});
panel.addEventListener("changed", ({ detail: job }) => {
  past.update(job);
  if (isFinal(job)) refreshModels().catch(() => {});
});
panel.addEventListener("again", ({ detail }) => useAgain(detail));
panel.addEventListener("gone", ({ detail }) => {
  close();
  history.replaceState(null, "", location.pathname + location.search);
  say($("#history-error"), detail);
});
panel.comparison.addEventListener("editthis", async ({ detail: { source, url, name } }) => {
  await clip.takeSource(source, url, name);
  $("#clip").scrollIntoView({ block: "start" });
  $("#prompt").focus({ preventScroll: true });
});
past.addEventListener("open", async ({ detail }) => {
  await open(detail);
  if (panel.job?.id !== detail) return;
  $("#listen").scrollIntoView({ block: "start" });
  $("#listen").focus({ preventScroll: true });
});
past.addEventListener("again", ({ detail }) => useAgain(detail));
past.addEventListener("deleted", ({ detail }) => {
  if (panel.job?.id !== detail) return;
  close();
  history.replaceState(null, "", location.pathname + location.search);
});
clip.addEventListener("plays", () => (last = "clip"));
transport.addEventListener("state", () => {
  if (transport.player?.playing) last = "job";
});

listenForKeys({
  transport,
  player: () => (last === "job" && transport.player ? transport.player : (clip.clip && clip.player) || transport.player),
  say: announce,
});

const banner = $("#banner");
connection.addEventListener("lost", () => say(banner, "The connection to the studio is lost. Trying again…"));
connection.addEventListener("back", () => {
  say(banner, "");
  announce("Connected again.");
  if (!started) return start();
  refreshModels().catch(failed);
  past.refresh();
});
connection.addEventListener("forbidden", ({ detail }) => {
  const asked = $("form span", banner);
  if (asked && !banner.hidden) return say(asked, detail); // what is typed there stays
  const field = h("input", { type: "password", autocomplete: "off", "aria-label": "Token" });
  const form = h("form", { class: "row" }, h("span", {}, detail), field, h("button", {}, "Open"));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    await signIn(field.value.trim()).then(
      () => connection.back(),
      () => field.select(),
    );
  });
  banner.replaceChildren(form);
  banner.hidden = false;
  field.focus();
});

function failed(error) {
  if (error.type !== "lost" && error.type !== "forbidden") say(banner, error.message);
}

async function start() {
  say(banner, "");
  try {
    await openSession();
    await refreshModels();
    await past.refresh();
    if (connection.lost) return; // "back" starts anew
    started = true;
    const id = named() ?? past.jobs.findLast((job) => !isFinal(job))?.id;
    if (!id) return;
    open(id);
    const job = past.jobs.find((other) => other.id === id);
    if (job && !clip.clip) await clip.takeSource(`${id}/input`, job.input.file, job.input.name);
  } catch (error) {
    failed(error);
  }
}

const withheld = whyNoMicrophone() || !canPlayLive();
say(
  $("#help-secure"),
  withheld ? "Recording, and listening while an edit is made, need https or this machine’s own address." : "",
);
start();
