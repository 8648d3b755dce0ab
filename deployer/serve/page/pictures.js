// Pictures of the question: dropped, pasted or chosen; priced as soon as they are there.

import { price } from "./api.js";
import { count, picture } from "./view.js";

const NAMED = /\.(heic|heif|tiff?)$/i; // pictures for which many systems know no type

export class Pictures {
  constructor({ list, changed, refused, key, detail }) {
    this.list = list;
    this.changed = changed; // told in words
    this.refused = refused;
    this.key = key;
    this.detail = detail;
    this.items = [];
  }

  async add(files) {
    for (const file of files) {
      if (!file.type.startsWith("image/") && !NAMED.test(file.name)) {
        this.refused({ message: `${file.name}: not a picture` });
        continue;
      }
      const item = { name: file.name || "pasted picture", url: await dataUrl(file) };
      this.items.push(item);
      this.show();
      await this.price(item);
    }
  }

  // What the server cannot read is marked and left out of the question; any other failure says nothing of a picture.
  async price(item) {
    item.detail = this.detail();
    try {
      [item.cost] = await price([item.url], { detail: item.detail, key: this.key() });
      this.changed(`${item.name} added, ${count(item.cost.tiles, "tile")}, ${count(item.cost.tokens, "token")}`);
    } catch (error) {
      if (error.status === 400) {
        item.fault = `left out: ${error.message.replace(/^image 1: /, "")}`; // it was asked for alone
        this.refused({ message: `${item.name} is ${item.fault}` });
      } else this.refused(error);
    }
    this.show();
  }

  // Prices what could not be priced without a key.
  async priceAgain() {
    for (const item of this.readable().filter(({ cost }) => !cost)) await this.price(item);
  }

  async detailChanged() {
    for (const item of this.readable().filter(({ detail }) => detail !== this.detail())) await this.price(item);
  }

  // The server counts the pictures it was `sent`; returns its refusal with the file's name in place of the number.
  // A picture of the question that was `asked` is marked, so that it is left out when the question is sent again.
  named(error, { sent, asked }) {
    const [whole, number] = /^image (\d+): /.exec(error.message) ?? [];
    const item = sent[number - 1];
    if (!item) return error;
    const reason = error.message.slice(whole.length);
    if (error.status === 400 && asked.includes(item)) item.fault = `left out: ${reason}`;
    return { status: error.status, message: `${item.name}: ${reason}` };
  }

  readable() {
    return this.items.filter(({ fault }) => !fault);
  }

  take() {
    const taken = this.readable();
    this.items = [];
    this.show();
    return taken;
  }

  putBack(taken) {
    this.items = [...taken, ...this.items];
    this.show();
  }

  dropRefused() {
    this.items = this.readable();
    this.show();
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
