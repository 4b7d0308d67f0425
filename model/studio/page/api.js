/**
 * The studio's HTTP interface: requests, their errors, the events of a job, and whether the server can be reached.
 *
 * @typedef {{message: string, type: string, param: string | null}} Problem
 * @typedef {{wav: string | null, flac: string | null, live: string | null, residual: string | null}} Files
 * @typedef {{number: number, seed: number, rank: number | null, score: number | null, ready_seconds: number,
 *   seconds: number, level_db: number | null, files: Files}} Candidate
 * @typedef {{id: string, state: string, created: number, started: number | null, finished: number | null,
 *   model: string, prompt: string, sentence: string, note: string | null, settings: Record<string, any>,
 *   input: Record<string, any>, queue_position: number | null, done: number, total: number,
 *   seconds_left: number | null, ranked_by: string | null, candidates: Candidate[], zip: string | null,
 *   error: Problem | null}} Job
 */

/** What the server, or the way to it, has against a request. `param` names the field that it concerns. */
export class ApiError extends Error {
  /** @param {Problem} problem @param {number} [status] */
  constructor(problem, status = 0) {
    super(problem.message);
    this.type = problem.type;
    this.param = problem.param ?? null;
    this.status = status;
  }
}

/** Tells of the connection by the events "lost", "back" and "forbidden". */
class Connection extends EventTarget {
  lost = false;

  /** Say that the server does not answer, and ask until it does: after 1 s, 2 s, 4 s, then every 5 s. */
  lose() {
    if (this.lost) return;
    this.lost = true;
    this.dispatchEvent(new Event("lost"));
    let wait = 1000;
    const ask = async () => {
      try {
        const response = await fetch("/v1/models");
        if (response.status >= 500) throw new Error("not yet");
        this.lost = false;
        this.dispatchEvent(new Event("back"));
      } catch {
        wait = Math.min(5000, wait * 2);
        setTimeout(ask, wait);
      }
    };
    setTimeout(ask, wait);
  }

  /** @param {Problem} problem */
  forbid(problem) {
    this.dispatchEvent(new CustomEvent("forbidden", { detail: problem.message }));
  }
}

export const connection = new Connection();

const FINAL = new Set(["done", "failed", "canceled", "interrupted"]);

/** Return whether nothing will happen to a job any more. @param {Job} job */
export function isFinal(job) {
  return FINAL.has(job.state);
}

/**
 * Send a request; return the response if it is a success.
 * Throws ApiError with the server's own sentence, or that it does not answer.
 * @param {string} path @param {RequestInit} [options]
 */
export async function request(path, options = {}) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw gone();
  }
  if (response.ok) return response;
  const problem = await problemOf(response);
  if (response.status === 401 || problem.type === "forbidden") connection.forbid(problem);
  throw new ApiError(problem, response.status);
}

/** Tell that the connection is lost, and return the error that says so. */
function gone() {
  connection.lose();
  return new ApiError({ message: "The studio does not answer. Is it still running?", type: "lost", param: null });
}

/** Return a whole file. Throws ApiError, also where the connection is lost half way. @param {string} path */
export async function file(path) {
  // Past the browser's cache: a request that hangs on a lost connection would hold its entry, and this one with it.
  const response = await request(path, { cache: "no-store" });
  try {
    return await response.blob();
  } catch {
    throw gone();
  }
}

/** @param {Response} response @returns {Promise<Problem>} */
async function problemOf(response) {
  try {
    const { error } = await response.json();
    if (typeof error.message === "string") return error;
  } catch {
    // Not one of the server's own errors.
  }
  return {
    message: `The server answered ${response.status} ${response.statusText}.`,
    type: "server_error",
    param: null,
  };
}

/** Read JSON; seeds that a JavaScript number cannot hold exactly are kept as their digits. @param {string} text */
function parsed(text) {
  return JSON.parse(text.replace(/("seed": ?)(\d{16,})/g, '$1"$2"'));
}

const json = async (path, options) => parsed(await (await request(path, options)).text());

/** Return the models, and the limits for what is sent. */
export const models = () => json("/v1/models");

/** Return every job, newest first. @returns {Promise<Job[]>} */
export const jobs = async () => (await json("/jobs")).jobs;

/** @param {string} id @returns {Promise<Job>} */
export const job = (id) => json(`/jobs/${encodeURIComponent(id)}`);

/** Ask for an edit. @param {FormData} form @returns {Promise<Job>} */
export const submit = (form) => json("/jobs", { method: "POST", body: form });

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
  history.replaceState(null, "", location.pathname + location.search);
  await signIn(token);
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
  let ended = false;
  const end = () => {
    ended = true;
    source?.close();
    connection.removeEventListener("back", open);
  };
  const take = (state) => {
    if (ended) return;
    if (isFinal(state)) end();
    onJob(state);
  };
  async function open() {
    if (ended) return;
    source?.close();
    source = new EventSource(`/jobs/${encodeURIComponent(id)}/events`);
    source.addEventListener("job", (event) => take(parsed(event.data)));
    source.addEventListener("error", check);
  }
  async function check() {
    source?.close();
    if (ended) return;
    try {
      take(await job(id));
      if (!ended) setTimeout(open, 500);
    } catch (error) {
      if (ended || error.type === "lost") return; // "back" opens it again
      end();
      onGone(error);
    }
  }
  connection.addEventListener("back", open);
  open();
  return end;
}
