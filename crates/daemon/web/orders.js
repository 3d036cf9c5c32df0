// Orders to the controller: asked about first, then sent, then told how it went.

import { at } from "./dom.js";
import { Refused, keepToken, send, token } from "./api.js";

let after = () => {};
/** Called when something was changed. */
export const whenDone = (callback) => (after = callback);

let hide = 0;
export function say(text, isError = false) {
  const said = at("said");
  said.textContent = text;
  said.dataset.is = isError ? "error" : "done";
  said.hidden = false;
  clearTimeout(hide);
  hide = setTimeout(() => (said.hidden = true), isError ? 15000 : 6000);
}

/** A question with an optional field. Gives the field's text, or true; null when the answer is no. */
export function ask({ title, text, yes = "Do it", field = null, secret = false, value = "" }) {
  const dialog = at("ask");
  at("ask-title").textContent = title;
  at("ask-text").textContent = text;
  at("ask-yes").textContent = yes;
  const label = at("ask-label");
  const input = at("ask-input");
  label.hidden = field === null;
  label.firstElementChild.textContent = field ?? "";
  input.type = secret ? "password" : "text";
  input.value = value;
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener(
      "close",
      () => {
        const given = input.value.trim();
        input.value = "";
        if (dialog.returnValue !== "yes") resolve(null);
        else resolve(field === null ? true : given);
      },
      { once: true },
    );
  });
}

export async function signIn() {
  const given = await ask({
    title: token() ? "Sign in anew, or out" : "Sign in",
    text: "Looking needs no token on loopback; changes do. It is kept in this tab until it is closed. An empty field signs out.",
    yes: "Keep it",
    field: "Token (the content of DIR/token, or one made by `shardwright token create`)",
    secret: true,
  });
  if (given !== null) keepToken(given);
  showSigned();
}

export function showSigned() {
  at("sign").textContent = token() ? "Signed in" : "Sign in";
}
window.addEventListener("signed-out", showSigned);

/** Sends one order; asks for a token first where there is none. Gives the answer, or null. */
export async function order(method, path, body, done) {
  if (!token()) {
    await signIn();
    if (!token()) return null;
  }
  try {
    const answer = await send(method, path, body);
    if (answer && answer.success === false) {
      say(answer.message ?? answer.error ?? `refused: ${answer.reason}`, true);
    } else {
      say(done);
    }
    after();
    return answer ?? {};
  } catch (error) {
    const hint = error instanceof Refused && error.hint ? ` — ${error.hint}` : "";
    say(`${error.message}${hint}`, true);
    return null;
  }
}
