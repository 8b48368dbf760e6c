"use strict";
// A virtual grid, which keeps only the visible entries in the document, and `element`, which inserts untrusted text.

const CARD = { width: 204, height: 292, gap: 14 }; // pixels; columns share the remaining width
const ROW = { width: Infinity, height: 56, gap: 0 };
const ROWS_OUTSIDE_THE_VIEW = 2;

/** Create an element; children are elements or text, which is never parsed as markup. */
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
    this.shown = new Map(); // index of an entry -> <li>
    this.active = 0; // index of the entry that the Tab key reaches
    this.show([], CARD, () => element("div"), "");
    viewport.addEventListener("scroll", () => this.draw());
    viewport.addEventListener("keydown", (event) => this.move(event));
    list.addEventListener("focusin", (event) => this.activate(Number(event.target.closest("li").dataset.index)));
    new ResizeObserver(() => this.draw()).observe(viewport);
  }

  /** Show other entries; `draw` creates the content of one. */
  show(entries, shape, draw, name) {
    Object.assign(this, { entries, shape, drawEntry: draw, active: 0 });
    this.list.setAttribute("aria-label", name);
    this.viewport.tabIndex = shape === CARD ? -1 : 0; // cards take the focus; a list of rows is scrolled
    this.list.replaceChildren();
    this.shown.clear();
    this.viewport.scrollTop = 0;
    this.draw();
  }

  draw() {
    const { width, height, gap } = this.shape;
    const available = this.list.clientWidth;
    this.columns = Math.max(1, Math.floor((available + gap) / (width + gap)));
    const columnWidth = (available - (this.columns - 1) * gap) / this.columns;
    const pitch = height + gap;
    const rows = Math.ceil(this.entries.length / this.columns);
    this.list.style.height = `${Math.max(0, rows * pitch - gap)}px`;
    const first = Math.max(0, Math.floor(this.viewport.scrollTop / pitch) - ROWS_OUTSIDE_THE_VIEW);
    const last = Math.ceil((this.viewport.scrollTop + this.viewport.clientHeight) / pitch) + ROWS_OUTSIDE_THE_VIEW;
    const from = first * this.columns;
    const to = Math.min(this.entries.length, last * this.columns);
    for (const [index, item] of this.shown) {
      if (index < from || index >= to) {
        if (item.contains(document.activeElement)) this.viewport.focus({ preventScroll: true });
        item.remove();
        this.shown.delete(index);
      }
    }
    for (let index = from; index < to; index += 1) {
      const item = this.shown.get(index) ?? this.add(index);
      const [row, column] = [Math.floor(index / this.columns), index % this.columns];
      item.style.width = `${columnWidth}px`;
      item.style.height = `${height}px`;
      item.style.transform = `translate(${column * (columnWidth + gap)}px, ${row * pitch}px)`;
    }
  }

  add(index) {
    const item = element(
      "li",
      { "aria-setsize": this.entries.length, "aria-posinset": index + 1 },
      this.drawEntry(this.entries[index], index === this.active),
    );
    item.dataset.index = index;
    // Keep the order of the entries: screen readers and the Tab key follow it.
    const next = [...this.shown.keys()].filter((other) => other > index);
    this.list.insertBefore(item, next.length ? this.shown.get(Math.min(...next)) : null);
    this.shown.set(index, item);
    return item;
  }

  activate(index) {
    for (const i of [this.active, index]) {
      const button = this.shown.get(i)?.querySelector("button");
      if (button) button.tabIndex = i === index ? 0 : -1;
    }
    this.active = index;
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

  /** Scroll to an entry and focus it. */
  reveal(index) {
    const pitch = this.shape.height + this.shape.gap;
    const top = Math.floor(index / this.columns) * pitch;
    const lowest = top + this.shape.height - this.viewport.clientHeight;
    this.viewport.scrollTop = Math.min(top, Math.max(lowest, this.viewport.scrollTop));
    this.draw();
    this.activate(index);
    this.shown.get(index).querySelector("button").focus({ preventScroll: true });
  }
}
