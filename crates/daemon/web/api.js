// What is asked of the controller. A token lives in this tab alone, goes out in a header, and never into a URL.

const TOKEN = "shardwright-token";

export const token = () => sessionStorage.getItem(TOKEN);
export const keepToken = (value) =>
  value ? sessionStorage.setItem(TOKEN, value) : sessionStorage.removeItem(TOKEN);

/** What the controller refused, in its own words. */
export class Refused extends Error {
  constructor(status, problem) {
    super(problem.detail ?? problem.title ?? `the controller answered ${status}`);
    this.status = status;
    this.hint = problem.hint ?? "";
  }
}

const headers = () => (token() ? { authorization: `Bearer ${token()}` } : {});

async function answer(response) {
  const text = await response.text();
  let body = null;
  try {
    body = text ? JSON.parse(text) : null;
  } catch {
    body = { detail: text.slice(0, 500) };
  }
  if (response.status === 401 && token()) {
    keepToken(null);
    window.dispatchEvent(new Event("signed-out"));
  }
  if (!response.ok) throw new Refused(response.status, body ?? {});
  return body;
}

export async function get(path) {
  return answer(await fetch(`/api/v1/${path}`, { headers: headers(), cache: "no-store", signal: AbortSignal.timeout(15000) }));
}

export async function send(method, path, body) {
  const options = { method, headers: headers(), signal: AbortSignal.timeout(90000) };
  if (body !== undefined) {
    options.headers = { ...options.headers, "content-type": "application/json" };
    options.body = JSON.stringify(body);
  }
  return answer(await fetch(`/api/v1/${path}`, options));
}

/**
 * Server-sent events, for ever: `heard(name)` for each, `state("live"|"lost")` when that changes. Read by fetch, since
 * an EventSource can send no header.
 */
export async function listen(heard, state) {
  for (let pause = 500; ; pause = Math.min(pause * 2, 10000)) {
    try {
      const response = await fetch("/api/v1/events", { headers: { ...headers(), accept: "text/event-stream" }, cache: "no-store" });
      if (!response.ok) throw new Refused(response.status, {});
      state("live");
      pause = 500;
      await read(response.body, heard);
    } catch (error) {
      console.info("events:", error.message);
    }
    state("lost");
    await new Promise((wake) => setTimeout(wake, pause));
  }
}

async function read(stream, heard) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    rest += value;
    const events = rest.split(/\r?\n\r?\n/);
    rest = events.pop();
    for (const event of events) {
      const name = /^event: ?(.*)$/m.exec(event);
      if (name) heard(name[1]);
    }
  }
}
