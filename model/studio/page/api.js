/**
 * The studio's HTTP interface: its routes, and the events of a job.
 *
 * @typedef {import("./connection.js").Problem} Problem
 * @typedef {{wav: string | null, flac: string | null, live: string | null, residual: string | null}} Files
 * @typedef {{number: number, seed: number, rank: number | null, score: number | null, ready_seconds: number,
 *   seconds: number, level_db: number | null, files: Files}} Candidate
 * @typedef {{id: string, state: string, created: number, started: number | null, finished: number | null,
 *   model: string, prompt: string, sentence: string, note: string | null, settings: Record<string, any>,
 *   input: Record<string, any>, queue_position: number | null, done: number, total: number,
 *   seconds_left: number | null, ranked_by: string | null, candidates: Candidate[], zip: string | null,
 *   error: Problem | null}} Job
 */

import { connection, request } from "./connection.js";

const SILENT = 40_000; // ms without an event of a job, which come every fifteen seconds at least
const LATER = 5_000; // ms until events are asked for again where the server refused them
const SENT = 900_000; // ms that an upload may take, and that the server may then take to decode it

const FINAL = new Set(["done", "failed", "canceled", "interrupted"]);

/** Return whether nothing will happen to a job any more. @param {Job} job */
export function isFinal(job) {
  return FINAL.has(job.state);
}

/** Read JSON; seeds that a JavaScript number cannot hold exactly are kept as their digits. @param {string} text */
function parsed(text) {
  return JSON.parse(text.replace(/("seed": ?)(\d{16,})/g, '$1"$2"'));
}

const json = async (path, options = {}) => parsed(await request(path, { ...options, read: (found) => found.text() }));

/** Return the models, and the limits for what is sent. */
export const models = () => json("/v1/models");

/**
 * Return jobs, newest first: a page of them, and what `before` must be for the page that follows, or null.
 * @param {string | null} [before] @returns {Promise<{jobs: Job[], before: string | null}>}
 */
export const jobs = (before = null) => json(before === null ? "/jobs" : `/jobs?${new URLSearchParams({ before })}`);

/** @param {string} id @returns {Promise<Job>} */
export const job = (id) => json(`/jobs/${encodeURIComponent(id)}`);

/** Ask for an edit. @param {FormData} form @returns {Promise<Job>} */
export const submit = (form) => json("/jobs", { method: "POST", body: form, patience: SENT });

/** Cancel a job; one that has just been finished stays. @param {string} id */
export const cancel = (id) => request(`/jobs/${encodeURIComponent(id)}/cancel`, { method: "POST" });

/** Delete a finished job and its files. @param {string} id */
export const remove = (id) => request(`/jobs/${encodeURIComponent(id)}`, { method: "DELETE" });

/** Return what goes to the model for a prompt, and a note where it was not trained on that; null if it can't be told. */
export async function sentence(model, prompt) {
  try {
    const response = await fetch(`/v1/sentence?${new URLSearchParams({ model, prompt })}`);
    return response.ok ? await response.json() : null;
  } catch {
    return null;
  }
}

/** Trade the token in the address for a cookie, and take it out of the address. */
export async function openSession() {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (token === null) return;
  const leave = () => history.replaceState(null, "", location.pathname + location.search);
  try {
    await signIn(token);
    leave();
  } catch (error) {
    if (!error.passing) leave(); // else it is handed in when the server answers
    throw error;
  }
}

/** @param {string} token */
export async function signIn(token) {
  await request("/session", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ token }),
  });
}

/**
 * Follow a job until its final state, over lost connections. Returns a function that ends it.
 * @param {string} id
 * @param {(job: Job) => void} onJob
 * @param {(error: ApiError) => void} onGone called where the job is no more
 */
export function follow(id, onJob, onGone) {
  /** @type {EventSource | null} */
  let source = null;
  let timer = 0;
  let ended = false;
  const end = () => {
    ended = true;
    source?.close();
    clearTimeout(timer);
    connection.removeEventListener("back", open);
  };
  const wait = (milliseconds, next) => {
    clearTimeout(timer);
    timer = setTimeout(next, milliseconds);
  };
  const take = (state) => {
    if (ended) return;
    if (isFinal(state)) end();
    onJob(state);
  };
  function open() {
    if (ended) return;
    source?.close();
    source = new EventSource(`/jobs/${encodeURIComponent(id)}/events`);
    source.addEventListener("error", check);
    source.addEventListener("job", (event) => {
      wait(SILENT, check);
      take(parsed(event.data));
    });
    wait(SILENT, check);
  }
  /** Events broke off, or none came: ask for the job itself, and for events again. */
  async function check() {
    source?.close();
    clearTimeout(timer);
    try {
      take(await job(id));
      if (!ended) wait(500, open);
    } catch (error) {
      if (ended || error.type === "lost" || error.type === "forbidden") return; // "back" opens them again
      if (error.status !== 404) return wait(LATER, open);
      end();
      onGone(error);
    }
  }
  connection.addEventListener("back", open);
  open();
  return end;
}
