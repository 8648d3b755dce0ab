// Pictures of the question: dropped, pasted or chosen; priced as soon as they are there.

import { price } from "./api.js";
import { count, picture } from "./view.js";

export class Pictures {
  constructor({ list, changed, refused, key }) {
    this.list = list;
    this.changed = changed; // told in words
    this.refused = refused;
    this.key = key;
    this.items = [];
  }

  async add(files) {
    for (const file of files) {
      if (!file.type.startsWith("image/")) {
        this.refused({ message: `${file.name}: not a picture` });
        continue;
      }
      const item = { name: file.name || "pasted picture", url: await dataUrl(file) };
      this.items.push(item);
      this.show();
      await this.price(item);
    }
  }

  async price(item) {
    try {
      [item.cost] = await price([item.url], this.key());
    } catch (error) {
      if (error.status !== 401) item.fault = error.message; // a missing key is no fault of the picture
      this.refused(error);
    }
    this.show();
    if (item.cost) this.changed(`${item.name} added, ${count(item.cost.tiles, "tile")}, ${count(item.cost.tokens, "token")}`);
  }

  // Prices what could not be priced without a key.
  async priceAgain() {
    for (const item of this.items.filter(({ cost, fault }) => !cost && !fault)) await this.price(item);
  }

  take() {
    const taken = this.items;
    this.items = [];
    this.show();
    return taken;
  }

  show() {
    const remove = (item) => () => {
      this.items = this.items.filter((one) => one !== item);
      this.show();
      this.changed(`${item.name} removed`);
    };
    this.list.replaceChildren(...this.items.map((item) => picture(item, remove(item))));
  }
}

function dataUrl(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
}

// Lets files come in from everywhere on the page; `veil` is shown while one hangs over it.
export function acceptFiles({ veil, chooser, button, add }) {
  const holdsFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  addEventListener("dragover", (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    veil.hidden = false;
  });
  addEventListener("dragleave", (event) => { if (event.relatedTarget === null) veil.hidden = true; });
  addEventListener("drop", (event) => {
    veil.hidden = true;
    if (!holdsFiles(event)) return;
    event.preventDefault();
    add([...event.dataTransfer.files]);
  });
  addEventListener("paste", (event) => {
    const files = [...event.clipboardData.files];
    if (!files.length) return;
    event.preventDefault();
    add(files);
  });
  button.onclick = () => chooser.click();
  chooser.onchange = () => { add([...chooser.files]); chooser.value = ""; };
}
