// The page: a conversation, its question, and what the server says of itself.

import { about, health, models } from "./api.js";
import { answer, body } from "./answer.js";
import * as history from "./history.js";
import { make } from "./make.js";
import { Options } from "./options.js";
import { acceptFiles, Pictures } from "./pictures.js";
import { count, turn as turnView } from "./view.js";

const $ = (id) => document.getElementById(id);
const HEALTH_MS = { ready: 10000, other: 1000 };
let conversation = fresh();
let stopping = null; // the AbortController of the answer that runs
let model = null;

const say = (words) => { $("spoken").textContent = words; };
const key = () => $("key").value.trim();
const scroll = () => { $("log").scrollTop = $("log").scrollHeight; };
const options = new Options({ panel: $("options"), told: $("options-set"), changed: () => pictures.detailChanged() });
const pictures = new Pictures({ list: $("pictures"), changed: say, refused: tell, key, detail: () => options.read().detail });

function fresh() {
  return { id: crypto.randomUUID?.() ?? String(Math.random()), changed: 0, turns: [] };
}

function show() {
  $("turns").replaceChildren(...conversation.turns.map((turn) => turnView(turn).element));
  $("welcome").hidden = conversation.turns.length > 0;
  scroll();
}

function tell(error) {
  say("");
  if (error.status === 401) {
    askForKey();
    $("key").focus();
    return;
  }
  $("fault").textContent = error.message;
  $("fault").hidden = false;
}

function askForKey() {
  $("key-row").hidden = false;
  $("key-told").textContent = key() ? "this key is not known" : "a key is needed";
  markKey(true);
}

function markKey(bad) {
  $("key-told").hidden = !bad;
  $("key").setAttribute("aria-invalid", String(bad));
}

function running(is) {
  if (document.activeElement === $(is ? "send" : "stop")) $("question").focus(); // the focus outlives its button
  $("stop").hidden = !is;
  $("send").disabled = is;
  $("new").disabled = is;
}

async function send() {
  const text = $("question").value.trim();
  if (stopping || !options.areRight()) return;
  if (!text && !pictures.readable().length) {
    if (pictures.items.length) tell({ message: "no picture is left to send: add another one, or ask in words" });
    return;
  }
  $("fault").hidden = true;
  const asked = { role: "user", text, pictures: pictures.take() };
  const told = { role: "assistant", text: "" };
  conversation.turns.push(asked);
  const request = body(conversation.turns, { model, ...options.read() });
  conversation.turns.push(told);
  $("question").value = "";
  show();
  const shown = turnView(told);
  shown.element.classList.add("running");
  $("turns").lastElementChild.replaceWith(shown.element);
  stopping = new AbortController();
  running(true);
  say("Answering");
  try {
    await answer(request, { turn: told, shown, key: key(), signal: stopping.signal, scroll });
    say(told.text || "The answer is empty");
  } catch (error) {
    const refused = pictures.named(error, { sent: conversation.turns.flatMap((turn) => turn.pictures ?? []), asked: asked.pictures });
    takeBack(asked, told);
    tell(refused);
  } finally {
    stopping = null;
    running(false);
    shown.element.classList.remove("running");
    scroll();
  }
  if (conversation.turns.length) await remember();
}

// A question without an answer goes back to where it was typed; a part of an answer stays.
function takeBack(asked, told) {
  if (told.text) return;
  conversation.turns.splice(-2);
  $("question").value = [asked.text, $("question").value].filter(Boolean).join("\n");
  pictures.putBack(asked.pictures);
  show();
}

async function remember() {
  conversation.changed = Date.now();
  await history.keep(conversation).catch((error) => tell({ message: `not kept in the history: ${error.message}` }));
  await showHistory();
}

async function showHistory() {
  const found = await history.all().catch(() => []); // a browser without storage has no history
  $("history-empty").hidden = found.length > 0;
  $("history-list").replaceChildren(...found.map(historyRow));
}

function historyRow(one) {
  const title = one.turns[0].text || count(one.turns[0].pictures.length, "picture");
  const opener = make("button", { type: "button", textContent: title, disabled: Boolean(stopping) });
  opener.onclick = () => { if (!stopping) { conversation = one; show(); toggleHistory(false); $("question").focus(); } };
  const drop = make("button", { type: "button", textContent: "Delete" });
  drop.setAttribute("aria-label", `Delete ${title}`);
  drop.onclick = async () => { await history.forget(one.id); await showHistory(); $("show-history").focus(); };
  return make("li", {}, opener, drop);
}

function toggleHistory(open) {
  $("history").hidden = !open;
  $("show-history").setAttribute("aria-expanded", String(open));
}

// The focus goes back to what opened the panel that had it.
function closePanels() {
  if ($("options").contains(document.activeElement)) $("options").querySelector("summary").focus();
  $("options").open = false;
  if ($("history").contains(document.activeElement)) $("show-history").focus();
  toggleHistory(false);
}

// Asks often while the server is not ready, seldom else.
async function watchHealth() {
  let state = "away", words = "no connection";
  try {
    const told = await health();
    state = told.status;
    words = state === "ready" ? "ready" : `${state}, ${Math.round(told.seconds)} s${told.phase ? ` (${told.phase})` : ""}`;
    if (model === null) await nameModel();
  } catch { /* `state` says how far it got; what is not named yet is asked for again */ }
  $("health").dataset.state = state;
  if ($("health-text").textContent !== words) $("health-text").textContent = words;
  setTimeout(watchHealth, state === "ready" ? HEALTH_MS.ready : HEALTH_MS.other);
}

// Without a known key the server still says its model's name.
async function nameModel() {
  model = await modelByKey() ?? (await about()).model;
  $("model").textContent = model;
  document.title = `${model} · deployer`;
}

// Null, and told beside the key, where the server knows no such key.
async function modelByKey() {
  try {
    const [card] = await models(key());
    markKey(false);
    return card.id;
  } catch (error) {
    if (error.status !== 401) throw error;
    askForKey();
    return null;
  }
}

async function changeKey() {
  $("fault").hidden = true;
  try {
    if (await modelByKey() !== null) await pictures.priceAgain();
  } catch (error) {
    tell(error);
  }
}

function startAnew() {
  $("fault").hidden = true;
  conversation = fresh();
  pictures.dropRefused();
  show();
  $("question").focus();
}

$("composer").onsubmit = (event) => { event.preventDefault(); send(); };
$("question").onkeydown = (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  send();
};
$("key").onchange = changeKey;
$("key").oninput = () => markKey(false); // what was told was of another key
$("stop").onclick = () => { stopping?.abort(); $("question").focus(); };
addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  if (stopping) stopping.abort();
  else closePanels();
});
$("new").onclick = startAnew;
$("reset").onclick = () => options.reset();
addEventListener("pointerdown", (event) => { if (!$("options").contains(event.target)) $("options").open = false; });
$("show-history").onclick = () => toggleHistory($("history").hidden);
acceptFiles({ veil: $("drop"), chooser: $("file"), button: $("choose"), add: (files) => pictures.add(files) });
showHistory();
watchHealth();
$("question").focus();
