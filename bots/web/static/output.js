// What cells put out: text as it streams, figures, tables, errors.

import { h, icon, rendered, visible, bytes, fileCard, seconds } from "./dom.js";

const shownLines = 18; // of a stream or a table, until somebody asks for all
const shownCode = 16; // lines of code

/** Text of stdout or stderr. It grows while the cell runs. */
export class StreamText {
  constructor(name) {
    this.name = name;
    this.done = document.createTextNode(""); // whole lines
    this.line = document.createTextNode(""); // the last one, which may be overwritten
    this.raw = "";
    this.count = 1;
    this.pre = h("pre", { class: `stream ${name}`, tabindex: "0", "aria-label": name === "stderr" ? "Error output" : "Output" }, this.done, this.line);
    this.el = h("div", { class: "clip-box" }, this.pre);
  }

  /** Follows the end as long as a reader of the end would see it come. */
  push(text, follow) {
    const following = follow && this.pre.scrollTop + this.pre.clientHeight >= this.pre.scrollHeight - 4;
    const all = this.raw + text;
    const cut = all.lastIndexOf("\n") + 1;
    this.done.appendData(overwrite(all.slice(0, cut)));
    this.raw = all.slice(cut);
    this.line.data = overwrite(this.raw);
    this.count += text.split("\n").length - 1;
    if (this.count > shownLines && !this.button) this.button = showAll(this.el, () => `Show all ${this.count} lines`);
    this.button?.update();
    if (following) this.pre.scrollTop = this.pre.scrollHeight;
  }
}

// A progress bar draws itself over and over after a carriage return; what
// stands in the end is the last one.
function overwrite(text) {
  if (text.includes("\r")) {
    text = text.split("\n").map((line) => {
      const end = line.replace(/\r+$/, "");
      return end.slice(end.lastIndexOf("\r") + 1);
    }).join("\n");
  }
  return visible(text);
}

/** Limits the height of what is in box and adds the button that lifts it. */
export function showAll(box, label) {
  const button = h("button", { type: "button", class: "show-all", "aria-expanded": "false" });
  button.update = () => {
    button.textContent = box.classList.contains("open") ? "Show less" : label();
  };
  button.addEventListener("click", () => {
    button.setAttribute("aria-expanded", String(box.classList.toggle("open")));
    button.update();
  });
  box.classList.add("clipped");
  box.append(button);
  button.update();
  return button;
}

/** Code, short until somebody asks for all. */
export function codeBox(html) {
  const box = h("div", { class: "clip-box code-box" });
  box.innerHTML = html;
  const pre = box.firstElementChild;
  pre.tabIndex = 0;
  const lines = pre.textContent.split("\n").length;
  if (lines > shownCode) showAll(box, () => `Show all ${lines} lines`);
  return box;
}

/** How rich a representation is; the richest of a display is the one shown. */
export function richness({ mime, html, url }) {
  if (mime.startsWith("image/")) return url ? 6 : 0;
  switch (mime) {
    case "text/html": return html ? 5 : 0;
    case "text/markdown": return 4;
    case "text/latex": return 3;
    case "text/plain": return 2;
    case "application/json": return html ? 3 : 0;
    // For bots, whose charts and tables are their own: never shown.
    case "application/vnd.threadbook.chart+json":
    case "application/vnd.threadbook.table+json": return 0;
    default: return 1;
  }
}

/** One representation of something displayed. */
export function display(ev, label) {
  const { mime, html, url, inline } = ev;
  if (mime.startsWith("image/") && inline) return figure(url, label);
  if (html) return html.length && mime === "application/json" ? codeBox(html) : tableBox(rendered("div", "rich md", html));
  if (mime === "text/plain" || mime === "text/latex" || mime === "text/markdown") return plainText(ev);
  if (url) return fileCard({ name: nameIn(url), size: ev.size ?? 0, url });
  return h("p", { class: "aside" }, `Output of the type ${visible(mime)}, which the page can't show.`);
}

function plainText(ev) {
  const text = new StreamText("stdout");
  text.push(ev.head ?? ev.text ?? "");
  if (ev.url) text.el.append(wholeText(ev));
  return text.el;
}

/** Where the rest of a long text can be had. */
export function wholeText({ url, size }) {
  return h("a", { class: "whole", href: url, download: nameIn(url) }, icon("save"), `The whole output, ${bytes(size)}`);
}

export const nameIn = (url) => new URL(url, location).searchParams.get("name") ?? "file";

// A long table scrolls in itself, so that its header stays in view.
function tableBox(el) {
  for (const box of el.querySelectorAll(".table")) {
    const rows = box.querySelectorAll("tr").length;
    if (rows > shownLines) {
      const clip = h("div", { class: "clip-box" });
      box.replaceWith(clip);
      clip.append(box);
      showAll(clip, () => `Show all ${rows - 1} rows`);
    }
  }
  return el;
}

/** A picture that opens large. */
export function figure(url, label) {
  const img = h("img", { src: url, alt: label, decoding: "async" });
  return h("button", { type: "button", class: "figure", "aria-label": `${label}: show it large`, onclick: () => view(url, label) }, img);
}

function view(url, label) {
  const dialog = document.getElementById("viewer");
  const image = document.getElementById("viewer-image");
  const save = document.getElementById("viewer-save");
  image.src = url;
  image.alt = label;
  save.href = url;
  save.download = url.startsWith("data:") ? "figure.svg" : nameIn(url);
  dialog.onclick = ({ target }) => {
    if (target === dialog || target === image) dialog.close();
  };
  dialog.showModal();
}

/** An error as the language tells it, the traceback folded away. */
export function errorBox({ name, value, traceback }) {
  return h("div", { class: "error" },
    h("p", { class: "error-head", dir: "auto" }, h("strong", {}, visible(name || "Error")), value ? `: ${visible(value)}` : ""),
    traceback ? h("details", {}, h("summary", {}, icon("chevron"), "Traceback"), h("pre", { class: "traceback", tabindex: "0" }, visible(traceback))) : null);
}

/** What a cell's end is called. */
export function ending(status, took) {
  const words = {
    ok: "", error: "Failed", timeout: "Timed out", out_of_memory: "Out of memory", interrupted: "Interrupted",
    kernel_died: "The kernel died", disk_full: "Disk full",
  };
  const word = words[status] ?? status;
  return word ? `${word} · ${seconds(took)}` : seconds(took);
}
