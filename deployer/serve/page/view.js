// Elements of the conversation; text is only ever set as text, never as markup.

import { make } from "./make.js";
import { Tokens } from "./tokens.js";

const SVG = "http://www.w3.org/2000/svg";

// A picture with the lines along which it is cut; `cost` comes from /v1/images/price.
export function picture({ url, name, cost, fault }, remove = null) {
  const frame = make("span", { className: "frame" }, preview(url, name, fault));
  if (cost && cost.tiles > 1) frame.append(lines(...cost.grid));
  if (remove) {
    const button = make("button", { type: "button", className: "remove", textContent: "×", onclick: remove });
    button.setAttribute("aria-label", `Remove ${name}`);
    frame.append(button);
  }
  const words = fault ?? (cost ? `${cost.width} × ${cost.height}, ${count(cost.tiles, "tile")}, ${count(cost.tokens, "token")}` : name);
  return make("li", { className: fault ? "picture refused" : "picture" }, frame, make("span", { textContent: words }));
}

// What a browser cannot show (HEIC, TIFF in most), it names in words; the server reads it all the same.
function preview(url, name, fault) {
  const shown = make("img", { src: url, alt: name });
  const words = fault ? name : `${name}: no preview, this browser cannot show the format. The model gets the picture.`;
  shown.onerror = () => {
    shown.parentElement.classList.add("unshown");
    shown.replaceWith(make("span", { textContent: words }));
  };
  return shown;
}

// Each line twice, light upon dark: seen on any picture.
function lines(columns, rows) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `0 0 ${columns} ${rows}`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  const add = (x1, y1, x2, y2) => {
    for (const layer of ["dark", "light"]) {
      const line = document.createElementNS(SVG, "line");
      for (const [name, value] of Object.entries({ x1, y1, x2, y2, class: layer })) line.setAttribute(name, value);
      svg.append(line);
    }
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
  let tokenList = null;
  const shown = {
    element,
    add(piece) { said.append(piece); },
    addTokens(found) { (tokenList ??= new Tokens(said)).add(found); },
    say(words) { element.append(make("p", { className: "told", textContent: words })); },
    measure(rows) { element.append(figureList(rows)); },
  };
  if (tokens) shown.addTokens(tokens);
  else shown.add(text);
  if (figures) shown.measure(figures);
  if (fault) shown.say(fault);
  return shown;
}

function figureList(rows) {
  const pairs = rows.map(([name, value]) => make("div", {}, make("dt", { textContent: name }), make("dd", { textContent: value })));
  return make("dl", { className: "figures" }, ...pairs);
}
