// Elements of the conversation; text is only ever set as text, never as markup.

const SVG = "http://www.w3.org/2000/svg";

export function make(tag, options = {}, ...children) {
  const element = Object.assign(document.createElement(tag), options);
  element.append(...children);
  return element;
}

// A picture with the lines along which it is cut; `cost` comes from /v1/images/price.
export function picture({ url, name, cost, fault }, remove = null) {
  const frame = make("span", { className: "frame" }, make("img", { src: url, alt: name }));
  if (cost && cost.tiles > 1) frame.append(lines(...cost.grid));
  if (remove) {
    const button = make("button", { type: "button", className: "remove", textContent: "×", onclick: remove });
    button.setAttribute("aria-label", `Remove ${name}`);
    frame.append(button);
  }
  const words = fault ?? (cost ? `${cost.width} × ${cost.height}, ${count(cost.tiles, "tile")}, ${count(cost.tokens, "token")}` : name);
  return make("li", { className: "picture" }, frame, make("span", { textContent: words }));
}

function lines(columns, rows) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `0 0 ${columns} ${rows}`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  const add = (x1, y1, x2, y2) => {
    const line = document.createElementNS(SVG, "line");
    for (const [name, value] of Object.entries({ x1, y1, x2, y2 })) line.setAttribute(name, value);
    svg.append(line);
  };
  for (let column = 1; column < columns; column++) add(column, 0, column, rows);
  for (let row = 1; row < rows; row++) add(0, row, columns, row);
  return svg;
}

export const count = (number, word) => `${number} ${word}${number === 1 ? "" : "s"}`;

// One turn; returns its element and what changes while an answer comes.
export function turn({ role, text = "", pictures = [], tokens = null, figures = null, fault = null }) {
  const said = make("div", { className: "said" });
  const element = make("li", { className: `turn ${role}` }, make("h3", { textContent: role === "user" ? "You" : "Answer" }));
  const box = make("div", { className: "box" });
  if (pictures.length) box.append(make("ul", { className: "pictures" }, ...pictures.map((one) => picture(one))));
  box.append(said);
  element.append(box);
  const shown = {
    element,
    add(piece) { said.append(piece); },
    addTokens(found) { said.append(...found.map(token)); },
    say(words) { element.append(make("p", { className: "told", textContent: words })); },
    measure(rows) { element.append(figureList(rows)); },
  };
  if (tokens) shown.addTokens(tokens);
  else shown.add(text);
  if (figures) shown.measure(figures);
  if (fault) shown.say(fault);
  return shown;
}

function token({ token: text, logprob, top_logprobs: others = [] }) {
  const share = Math.exp(logprob);
  const list = others.map((one) => `${JSON.stringify(one.token)} ${(Math.exp(one.logprob) * 100).toFixed(1)} %`);
  const element = make("span", { className: "token", textContent: text, title: `${(share * 100).toFixed(1)} %\n${list.join("\n")}` });
  element.style.setProperty("--p", share.toFixed(3));
  return element;
}

function figureList(rows) {
  const pairs = rows.map(([name, value]) => make("div", {}, make("dt", { textContent: name }), make("dd", { textContent: value })));
  return make("dl", { className: "figures" }, ...pairs);
}
