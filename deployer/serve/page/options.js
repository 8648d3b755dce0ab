// The options of a question: fields of a panel, kept in this browser until they are set back.

const KEPT = "deployer.options";

export class Options {
  constructor({ panel, told, changed }) {
    this.panel = panel;
    this.told = told; // how many are not at their default
    this.changed = changed;
    this.fields = [...panel.querySelectorAll("[name]")];
    const kept = restored();
    for (const field of this.fields) if (field.name in kept) set(field, kept[field.name]);
    panel.addEventListener("change", () => this.keep());
    this.count();
  }

  // By name: a number, a text or true; null where a field is empty.
  read() {
    return Object.fromEntries(this.fields.map((field) => [field.name, value(field)]));
  }

  // Shows the first field that holds something else than it may; false where there is one.
  areRight() {
    const wrong = this.fields.find((field) => !field.checkValidity());
    if (wrong) { this.panel.open = true; wrong.reportValidity(); }
    return !wrong;
  }

  reset() {
    for (const field of this.fields) set(field, null);
    this.keep();
  }

  keep() {
    const others = this.fields.filter(isSet).map((field) => [field.name, value(field)]);
    try {
      localStorage.setItem(KEPT, JSON.stringify(Object.fromEntries(others)));
    } catch {
      // A browser without storage keeps them as long as the page is open.
    }
    this.count();
    this.changed();
  }

  count() {
    const number = this.fields.filter(isSet).length;
    this.told.textContent = number ? ` (${number} set)` : "";
  }
}

function restored() {
  try {
    return JSON.parse(localStorage.getItem(KEPT)) ?? {};
  } catch {
    return {};
  }
}

function value(field) {
  if (field.type === "checkbox") return field.checked;
  const text = field.value.trim();
  return text === "" ? null : field.type === "number" ? Number(text) : text;
}

function isSet(field) {
  return field.type === "checkbox" ? field.checked : field.tagName === "SELECT" ? field.selectedIndex > 0 : field.value !== "";
}

function set(field, to) {
  if (field.type === "checkbox") field.checked = Boolean(to);
  else if (field.tagName === "SELECT" && to === null) field.selectedIndex = 0;
  else field.value = to ?? "";
}
