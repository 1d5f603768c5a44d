// A cell of the notebook: its code, what it puts out as it runs, how it ended.

import { h, icon, copyButton, languageName, bytes, fileCard, baseName, seconds, visible } from "./dom.js";
import { StreamText, codeBox, display, ending, errorBox, figure, richness, wholeText } from "./output.js";

export class Cell {
  constructor(ev, since) {
    this.number = ev.cell;
    this.since = since;
    this.running = true;
    this.displays = new Map(); // of a display's number: what is shown of it
    this.blobs = new Set(); // of the figures that are shown
    this.figures = 0;
    this.alts = new Map(); // of a display's number: what its figure shows
    const name = `${languageName(ev.language)} · Cell ${ev.cell}`;
    this.state = h("span", { class: "cell-state" }, h("span", { class: "spinner" }), "Running");
    this.outputs = h("div", { class: "outputs", "aria-live": "off" });
    this.files = h("div", { class: "files" });
    const code = codeBox(ev.html);
    const head = h("header", { class: "cell-head" },
      h("span", { class: "language" }, languageName(ev.language)),
      h("span", { class: "cell-number" }, `Cell ${ev.cell}`),
      this.state,
      copyButton(() => ev.code));
    if (ev.by === "user") {
      // The message above shows this code already.
      code.hidden = true;
      const toggle = h("button", { type: "button", class: "quiet", "aria-expanded": "false", title: "Show the code", "aria-label": "Show the code" }, icon("code"));
      toggle.addEventListener("click", () => {
        code.hidden = !code.hidden;
        toggle.setAttribute("aria-expanded", String(!code.hidden));
      });
      head.lastChild.before(toggle);
    }
    this.el = h("section", { class: "cell running", "aria-label": name }, head, code, this.outputs, this.files);
  }

  /** live: it comes now, and was not there when the page was opened. */
  output(ev, live) {
    if (ev.truncated) this.add(h("p", { class: "aside" }, `${bytes(ev.truncated)} of output were left out here.`));
    if (ev.stream) this.text(ev, live);
    else if (ev.mime) this.display(ev);
  }

  text(ev, live) {
    if (this.stream?.name !== ev.stream) this.add((this.stream = new StreamText(ev.stream)).el, true);
    this.stream.push(ev.head ?? ev.text ?? "", live);
    if (ev.url) this.stream.el.append(wholeText(ev));
  }

  // A thing displayed comes in several representations; each richer one
  // takes the place of the one before. Plain text comes first, and beside a
  // figure it says what that shows.
  display(ev) {
    const alts = this.alts;
    if (ev.mime === "text/plain" && ev.display && ev.text) alts.set(ev.display, describing(ev.text));
    const rich = richness(ev);
    const shown = ev.display ? this.displays.get(ev.display) : null;
    // What is as rich as what is shown is its next state.
    if (shown ? rich < shown.rich || rich === 0 : rich === 0 && ev.display) return;
    if (ev.mime.startsWith("image/")) {
      this.figures++;
      if (ev.blob) this.blobs.add(ev.blob);
    }
    const el = display(ev, alts.get(ev.display) || `Figure ${this.figures} of cell ${this.number}`);
    if (shown) shown.el.replaceWith(el);
    else this.add(el);
    if (ev.display) this.displays.set(ev.display, { rich, el });
  }

  add(el, stream = false) {
    if (!stream) this.stream = null;
    this.outputs.append(el);
  }

  /** A file that the cell wrote. */
  file(ev) {
    if (this.blobs.has(ev.blob)) return; // it is the figure above
    const name = baseName(ev.path);
    const card = fileCard({ name, size: ev.size, url: ev.url, title: ev.title });
    if (ev.inline) this.outputs.append(h("div", { class: "file-figure" }, figure(ev.url, ev.title || name), card));
    else this.files.append(card);
  }

  finish(ev) {
    this.running = false;
    this.el.classList.remove("running");
    this.el.classList.add(ev.status === "ok" ? "ok" : "failed");
    this.state.replaceChildren(icon(ev.status === "ok" ? "check" : "alert"), ending(ev.status, ev.seconds));
    if (ev.error) this.add(errorBox(ev.error));
    if (ev.state === "lost") {
      this.add(h("p", { class: "aside" }, "The variables are lost; the files are still there."));
    }
  }

  /** The turn is over and the cell's end was never told. */
  abandon() {
    if (!this.running) return;
    this.running = false;
    this.el.classList.remove("running");
    this.state.replaceChildren("Not finished");
  }

  tick(now) {
    const took = (now - this.since) / 1000;
    if (this.running && took >= 1) this.state.lastChild.data = `Running · ${took < 60 ? `${Math.floor(took)} s` : seconds(took)}`;
  }
}

// "<Figure size 640x480 with 1 Axes>" describes nothing.
const describing = (text) => (/^<[^<>]*>$/.test(text) ? "" : visible(text));

/** The cell that the model is writing. */
export function draftCell(html) {
  const box = h("div", { class: "code-box tail" });
  box.innerHTML = html;
  return h("section", { class: "cell draft-cell", "aria-hidden": "true" },
    h("header", { class: "cell-head" }, h("span", { class: "cell-state" }, h("span", { class: "spinner" }), "Writing a cell")), box);
}
