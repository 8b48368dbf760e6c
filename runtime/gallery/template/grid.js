"use strict";
// A list of which only what is in view is on the page, and `element`, through which all that is foreign gets there.

const CARD = { width: 204, height: 292, gap: 14 }; // pixels; columns share what room is left
const ROW = { width: Infinity, height: 56, gap: 0 };
const ROWS_BESIDE_THE_VIEW = 2;

/** Make an element; children are elements or text, which is never read as markup. */
function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key.includes("-")) made.setAttribute(key, value);
    else made[key] = value;
  }
  made.append(...children);
  return made;
}

class VirtualGrid {
  constructor(viewport, list) {
    this.viewport = viewport;
    this.list = list;
    this.shown = new Map(); // place among the entries -> <li>
    this.active = 0; // the entry that the Tab key reaches
    this.show([], CARD, () => element("div"), "");
    viewport.addEventListener("scroll", () => this.draw());
    viewport.addEventListener("keydown", (event) => this.move(event));
    list.addEventListener("focusin", (event) => this.activate(Number(event.target.closest("li").dataset.place)));
    new ResizeObserver(() => this.draw()).observe(viewport);
  }

  /** Show other entries; `draw` makes the content of one. */
  show(entries, shape, draw, name) {
    Object.assign(this, { entries, shape, drawEntry: draw, active: 0 });
    this.list.setAttribute("aria-label", name);
    this.viewport.tabIndex = shape === CARD ? -1 : 0; // cards are reached themselves; a list of rows is scrolled
    this.list.replaceChildren();
    this.shown.clear();
    this.viewport.scrollTop = 0;
    this.draw();
  }

  draw() {
    const { width, height, gap } = this.shape;
    const room = this.list.clientWidth;
    this.columns = Math.max(1, Math.floor((room + gap) / (width + gap)));
    const columnWidth = (room - (this.columns - 1) * gap) / this.columns;
    const pitch = height + gap;
    const rows = Math.ceil(this.entries.length / this.columns);
    this.list.style.height = `${Math.max(0, rows * pitch - gap)}px`;
    const first = Math.max(0, Math.floor(this.viewport.scrollTop / pitch) - ROWS_BESIDE_THE_VIEW);
    const last = Math.ceil((this.viewport.scrollTop + this.viewport.clientHeight) / pitch) + ROWS_BESIDE_THE_VIEW;
    const from = first * this.columns;
    const to = Math.min(this.entries.length, last * this.columns);
    for (const [place, item] of this.shown) {
      if (place < from || place >= to) {
        if (item.contains(document.activeElement)) this.viewport.focus({ preventScroll: true });
        item.remove();
        this.shown.delete(place);
      }
    }
    for (let place = from; place < to; place += 1) {
      const item = this.shown.get(place) ?? this.add(place);
      const [row, column] = [Math.floor(place / this.columns), place % this.columns];
      item.style.width = `${columnWidth}px`;
      item.style.height = `${height}px`;
      item.style.transform = `translate(${column * (columnWidth + gap)}px, ${row * pitch}px)`;
    }
  }

  add(place) {
    const item = element(
      "li",
      { "aria-setsize": this.entries.length, "aria-posinset": place + 1 },
      this.drawEntry(this.entries[place], place === this.active),
    );
    item.dataset.place = place;
    // In the order of the entries, which is the order in which they are read out and reached.
    const next = [...this.shown.keys()].filter((other) => other > place);
    this.list.insertBefore(item, next.length ? this.shown.get(Math.min(...next)) : null);
    this.shown.set(place, item);
    return item;
  }

  activate(place) {
    for (const at of [this.active, place]) {
      const button = this.shown.get(at)?.querySelector("button");
      if (button) button.tabIndex = at === place ? 0 : -1;
    }
    this.active = place;
  }

  move(event) {
    const page = Math.max(1, Math.floor(this.viewport.clientHeight / (this.shape.height + this.shape.gap))) * this.columns;
    const steps = {
      ArrowRight: 1, ArrowLeft: -1, ArrowDown: this.columns, ArrowUp: -this.columns, PageDown: page, PageUp: -page,
      Home: -Infinity, End: Infinity,
    };
    if (!(event.key in steps) || !this.entries.length || this.shape !== CARD) return;
    event.preventDefault();
    this.reveal(Math.min(this.entries.length - 1, Math.max(0, this.active + steps[event.key])));
  }

  /** Scroll to an entry and put the focus on it. */
  reveal(place) {
    const pitch = this.shape.height + this.shape.gap;
    const top = Math.floor(place / this.columns) * pitch;
    const lowest = top + this.shape.height - this.viewport.clientHeight;
    this.viewport.scrollTop = Math.min(top, Math.max(lowest, this.viewport.scrollTop));
    this.draw();
    this.activate(place);
    this.shown.get(place).querySelector("button").focus({ preventScroll: true });
  }
}
