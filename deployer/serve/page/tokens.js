// The tokens of an answer and what each was chosen from: one stop of the Tab key, arrows walk, a tap chooses.

import { make } from "./make.js";

const STEPS = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, Home: -Infinity, End: Infinity };
const percent = (logprob) => `${(Math.exp(logprob) * 100).toFixed(1)} %`;

export class Tokens {
  constructor(said) {
    this.said = said;
    this.words = make("p", { className: "chosen", textContent: "A token tells its probability: tap it, or Tab and arrow keys." });
    this.words.setAttribute("aria-live", "polite");
    said.setAttribute("role", "listbox");
    said.setAttribute("aria-label", "Tokens of the answer, arrow keys walk");
    said.after(this.words);
    said.addEventListener("keydown", (event) => this.walk(event));
    said.addEventListener("focusin", (event) => this.choose(event.target));
    said.addEventListener("click", (event) => event.target.closest(".token")?.focus());
  }

  add(found) {
    this.said.append(...found.map(token));
    if (!this.said.querySelector('[tabindex="0"]')) this.said.firstElementChild?.setAttribute("tabindex", "0");
  }

  walk(event) {
    const step = STEPS[event.key];
    if (step === undefined) return;
    event.preventDefault();
    const all = this.said.children, at = [...all].indexOf(document.activeElement);
    all[Math.min(Math.max(at + step, 0), all.length - 1)].focus();
  }

  choose(one) {
    if (!one.matches(".token")) return;
    for (const before of this.said.querySelectorAll('[tabindex="0"]')) mark(before, false);
    mark(one, true);
    this.words.textContent = one.title;
  }
}

function mark(one, chosen) {
  one.setAttribute("tabindex", chosen ? "0" : "-1");
  one.setAttribute("aria-selected", String(chosen));
}

function token({ token: text, logprob, top_logprobs: others = [] }) {
  const instead = others.filter((one) => one.token !== text).map((one) => `${JSON.stringify(one.token)} ${percent(one.logprob)}`);
  const words = `${JSON.stringify(text)} ${percent(logprob)}${instead.length ? `, instead of ${instead.join(", ")}` : ""}`;
  const element = make("span", { className: "token", textContent: text, title: words, role: "option" });
  element.style.setProperty("--p", Math.exp(logprob).toFixed(3));
  mark(element, false);
  return element;
}
