/** The way to the server: requests, what is wrong with them, and going on when it answers again. */

/** @typedef {{message: string, type: string, param: string | null}} Problem */

const PATIENCE = 20_000; // ms without a byte after which an answer is given up
const ASKED = 5_000; // ms that the question whether it answers may take
const TRIES = 5;

/** What the server, or the way to it, has against a request. `param` names the field that it concerns. */
export class ApiError extends Error {
  /** @param {Problem} problem @param {number} [status] */
  constructor(problem, status = 0) {
    super(problem.message);
    this.type = problem.type;
    this.param = problem.param ?? null;
    this.status = status;
  }

  /** Whether it may be over soon: the server is not reached, or is not itself. */
  get passing() {
    return this.type === "lost" || this.status >= 500;
  }
}

/** Tells of the connection by the events "lost", "back" (also after a new token) and "forbidden". */
class Connection extends EventTarget {
  lost = false;

  /** Say that the server does not answer, and ask until it does: after 1 s, 2 s, 4 s, then every 5 s. */
  lose() {
    if (this.lost) return;
    this.lost = true;
    this.dispatchEvent(new Event("lost"));
    let wait = 1000;
    const ask = async () => {
      if (await answers()) {
        this.lost = false;
        this.back();
      } else {
        wait = Math.min(5000, wait * 2);
        setTimeout(ask, wait);
      }
    };
    setTimeout(ask, wait);
  }

  /** Say that what could not be had can be asked for again. */
  back() {
    this.dispatchEvent(new Event("back"));
  }

  /** Wait until the server answers; no time where it is not lost. */
  answered() {
    return new Promise((resolve) => {
      if (this.lost) this.addEventListener("back", resolve, { once: true });
      else resolve(undefined);
    });
  }

  /** @param {Problem} problem */
  forbid(problem) {
    this.dispatchEvent(new CustomEvent("forbidden", { detail: problem.message }));
  }
}

export const connection = new Connection();

async function answers() {
  try {
    return (await timed("/v1/models", {}, ASKED, (response) => response)).status < 500;
  } catch {
    return false;
  }
}

/**
 * Fetch, and return what `read` makes of the response. It is aborted where nothing comes for `patience` ms; `read` calls
 * the function that it is given at each sign of life.
 */
async function timed(path, { signal, ...options }, patience, read) {
  const end = new AbortController();
  const abort = () => end.abort();
  let timer = setTimeout(abort, patience);
  const alive = () => {
    clearTimeout(timer);
    timer = setTimeout(abort, patience);
  };
  signal?.throwIfAborted();
  signal?.addEventListener("abort", abort);
  try {
    return await read(await fetch(path, { ...options, signal: end.signal }), alive);
  } finally {
    clearTimeout(timer);
  }
}

/**
 * Send a request; return what `read` makes of the response if it is a success, by default the response itself.
 * Throws ApiError with the server's own sentence, or that it does not answer. An abort by `signal` is thrown as it is.
 * @template [T=Response]
 * @param {string} path
 * @param {RequestInit & {patience?: number, read?: (response: Response, alive: () => void) => any}} [options]
 * @returns {Promise<T>}
 */
export async function request(path, { patience = PATIENCE, read = (response) => response, ...options } = {}) {
  try {
    return await timed(path, options, patience, async (response, alive) => {
      if (response.ok) return read(response, alive);
      const problem = await problemOf(response);
      if (response.status === 401 || problem.type === "forbidden") connection.forbid(problem);
      throw new ApiError(problem, response.status);
    });
  } catch (error) {
    if (error instanceof ApiError || options.signal?.aborted) throw error;
    connection.lose();
    throw new ApiError({ message: "The studio does not answer. Is it still running?", type: "lost", param: null });
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

/**
 * Return a whole file. Where it breaks off, stalls, or the server is not itself, it is asked for again, at most five
 * times in all, when the server answers and a little later each time. Throws ApiError.
 * @param {string} path @param {AbortSignal} [signal]
 * @returns {Promise<Blob>}
 */
export async function file(path, signal) {
  for (let tries = 1; ; tries++) {
    try {
      return await request(path, { signal, read: whole });
    } catch (error) {
      if (!error.passing || tries === TRIES) throw error;
      await connection.answered();
      await new Promise((resolve) => setTimeout(resolve, 125 * 2 ** tries));
      signal?.throwIfAborted();
    }
  }
}

/** Read a response to its end. @param {Response} response @param {() => void} alive @returns {Promise<Blob>} */
function whole(response, alive) {
  const heard = new TransformStream({
    transform(part, out) {
      alive();
      out.enqueue(part);
    },
  });
  const { headers } = response;
  return new Response(response.body.pipeThrough(heard), { headers }).blob();
}
