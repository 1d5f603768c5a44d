// The first screen of a thread: what can be done here.

import { h, icon } from "./dom.js";

const cellExample = '```python\nimport sys, platform\nprint("Python", platform.python_version())\n```';

/** on: fill(text), pick(). */
export function startScreen(on) {
  const way = (name, title, words, act) =>
    h("button", { type: "button", class: "way", onclick: act }, h("span", { class: "way-icon" }, icon(name)),
      h("span", {}, h("strong", {}, title), h("span", { class: "way-words" }, words)));
  return h("section", { class: "start" },
    h("h2", {}, "Ask about your data"),
    h("p", {}, "Drop in a file and ask a question. The answer comes with the code that found it, and with charts and files to keep. Variables and files stay with the thread for as long as it lives."),
    h("div", { class: "ways" },
      way("file-table", "Add a file", "CSV, Excel, Parquet, JSON, a picture, a ZIP: up to 512 MB", () => on.pick()),
      way("ask", "Ask a question", "“What is in this file? Show me the three most telling charts.”", () =>
        on.fill("What is in this file? Show me the three most telling charts.")),
      way("code", "Run code as it is", "A message that is only a ```python fence runs without a model", () => on.fill(cellExample))));
}
